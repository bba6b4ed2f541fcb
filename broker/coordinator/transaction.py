"""A transactional id as a value: its producer id and epoch, and how far its transaction has come."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tailrace.broker.coordinator.group_records import Record
from tailrace.broker.coordinator.moment import Moment
from tailrace.broker.coordinator.offsets import TopicPartition

LAST_EPOCH = 32_766
"""The last epoch that a producer is given; one more is kept to fence it. After it comes a new producer id."""


class TxnState(enum.IntEnum):
    """Kafka's states, with the numbers its log has.

    EMPTY            -> ONGOING (AddPartitions, AddOffsets), EMPTY (InitProducerId)
    ONGOING          -> ONGOING, PREPARE_COMMIT (EndTxn), PREPARE_ABORT (EndTxn, time-out, InitProducerId)
    PREPARE_COMMIT   -> COMPLETE_COMMIT (all markers are on disk)
    PREPARE_ABORT    -> COMPLETE_ABORT
    COMPLETE_*       -> ONGOING, EMPTY
    """

    EMPTY = 0
    ONGOING = 1
    PREPARE_COMMIT = 2
    PREPARE_ABORT = 3
    COMPLETE_COMMIT = 4
    COMPLETE_ABORT = 5
    DEAD = 6
    PREPARE_EPOCH_FENCE = 7


PREPARED = (TxnState.PREPARE_COMMIT, TxnState.PREPARE_ABORT)


@dataclass(frozen=True, slots=True)
class Transaction:
    """Times are wall ms; -1 is never."""

    transactional_id: str
    producer_id: int
    epoch: int = -1
    timeout: int = 60_000
    state: TxnState = TxnState.EMPTY
    partitions: frozenset[TopicPartition] = frozenset()
    started: int = -1
    updated: int = -1
    last_epoch: int = -1
    """The epoch before a bump that the producer asked for itself; tells a repetition (KIP-360)."""
    last_producer_id: int = -1
    ending: bool = False
    """EndTxn(commit) came and its rows are being fsynced; nothing else may happen meanwhile."""

    @property
    def busy(self) -> bool:
        """Between EndTxn and its last marker: everything else answers CONCURRENT_TRANSACTIONS."""
        return self.ending or self.state in PREPARED


@dataclass(frozen=True, slots=True)
class Markers:
    """Control batches to append, one to each partition, and to fsync before complete() is called."""

    transactional_id: str
    producer_id: int
    epoch: int
    commit: bool
    partitions: frozenset[TopicPartition]


@dataclass(slots=True)
class TxnStep:
    """A decision about one transactional id; transactions.py has the order in which it is carried out."""

    txn: Transaction
    now: Moment
    records: Sequence[Record] = ()
    answers: list[tuple[int, Any]] = field(default_factory=list)
    flush: frozenset[TopicPartition] | None = None
    """Logs whose rows must be on disk before prepare() is called."""
    markers: Markers | None = None
    """To be written once the records are on disk."""
    deadline: int | None = None
    """Steady ms at which the open transaction times out; None when none is open."""
    forget: bool = False
