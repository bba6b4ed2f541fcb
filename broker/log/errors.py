"""What a partition log refuses, as exceptions; the broker's api maps each to a Kafka error code.

A full or failing disk is an OSError as it came from the system. Bad bytes are the kernel's Corrupt.
"""

from tailrace.errors import Halt, TailraceError


class LogError(TailraceError):
    """An append or a read that the log refuses and that changed nothing."""


class OffsetOutOfRange(LogError):
    """The offset is below the log start or beyond the log end (Kafka error 1)."""


class OutOfOrderSequence(LogError):
    """The batch's first sequence does not follow the producer's last one (Kafka error 45)."""


class InvalidProducerEpoch(LogError):
    """The producer id is in use with a newer epoch (Kafka error 47)."""


class InvalidTransactionState(LogError):
    """A batch outside a transaction from a producer that has one open (Kafka error 48)."""


class CoordinatorFenced(LogError):
    """A transaction marker from a coordinator older than the last one seen (Kafka error 52)."""


class TopicExists(LogError):
    """A topic of that name is already there (Kafka error 36)."""


class NewerDataDirectory(Halt):
    """The data directory was made by a newer version; the broker ends with status 78."""
