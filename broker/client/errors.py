"""What a broker's error codes mean to a caller: each becomes one of the kernel's instructions.

Retry        the verb may be repeated as it is (the client has done so for its `patience` already)
Rewind       the open transaction is lost: Producer.init_transactions(), positions read again, sources sought
Fenced       another producer or member has taken over
Refused      repeating is pointless: authorisation, a name or a setting the broker does not take
"""

from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.wire.errors import ErrorCode, error_name, is_retriable
from tailrace.errors import Corrupt, Fenced, Retry, TailraceError


class Refused(TailraceError):
    """The broker will not do this, however often it is asked. `code` is Kafka's error code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Disconnected(Retry):
    """No connection, or none any more; whether the broker has acted on what was sent is unknown."""


class UnknownTopic(Retry):
    """The cluster does not have this topic (yet, or any more)."""

    def __init__(self, topic: str, text: str) -> None:
        super().__init__(text)
        self.topic = topic


class OutcomeUnknown(Retry):
    """EndTxn was sent and its answer is lost: call the same Producer.commit() or abort() again until it is
    definite."""


class OffsetOutOfRange(Corrupt):
    """A fetch position outside the log [log_start, log_end): retention has deleted it, or the log was cut or
    made anew."""

    def __init__(self, partition: TopicPartition, offset: int, log_start: int, log_end: int) -> None:
        super().__init__(f"{partition}: offset {offset} is outside the log [{log_start}, {log_end})")
        self.partition = partition
        self.offset = offset
        self.log_start = log_start
        self.log_end = log_end


class LogTruncated(Corrupt):
    """The log lost rows that were read from it (an unclean leader election): it now ends at `end` for their
    epoch (KIP-320)."""

    def __init__(self, partition: TopicPartition, offset: int, epoch: int, end: int) -> None:
        super().__init__(
            f"{partition}: read up to offset {offset} of leader epoch {epoch}, which now ends at {end}"
        )
        self.partition = partition
        self.offset = offset
        self.epoch = epoch
        self.end = end


class RowTooLarge(TailraceError):
    """One row, encoded, is larger than the topic takes (max.message.bytes). Nothing of the send was taken
    when raised by Producer.send; `row` is its index in the rows given, `size` about its bytes."""

    def __init__(self, partition: TopicPartition, row: int, size: int, limit: int) -> None:
        super().__init__(
            f"{partition}: row {row} of about {size} bytes is larger than max.message.bytes {limit}"
        )
        self.partition = partition
        self.row = row
        self.size = size
        self.limit = limit


_FENCED = frozenset(
    {
        ErrorCode.invalid_producer_epoch,
        ErrorCode.producer_fenced,
        ErrorCode.fenced_instance_id,
        ErrorCode.unknown_member_id,
        ErrorCode.illegal_generation,
    }
)


def raise_for(code: int, place: str) -> None:
    """Nothing for code 0; else the instruction that the code is, its text `place: NAME`."""
    if code:
        raise error_for(code, place)


def error_for(code: int, place: str) -> TailraceError:
    """The instruction that an error code is, where the place has no better one."""
    text = f"{place}: {error_name(code)}"
    if code in _FENCED:
        return Fenced(text)
    if is_retriable(code):
        return Retry(text, after=0.2)
    return Refused(code, text)
