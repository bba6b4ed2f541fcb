"""What a log knows of its producers: sequences for idempotence, and transactions that are still open.

The rules are Kafka's (KIP-98, KIP-360). This state always equals what the batches of the log say; it is
checked before a batch is written and changed only after it was.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tailrace.broker.log.errors import (
    CoordinatorFenced,
    InvalidProducerEpoch,
    InvalidTransactionState,
    OutOfOrderSequence,
)
from tailrace.broker.log.txn_index import Aborted
from tailrace.broker.wire.batch import BatchHeader

MAX_SEQUENCE = 2**31 - 1
REMEMBERED = 5


@dataclass(frozen=True, slots=True)
class Written:
    """One of the last batches of a producer: enough to know it again."""

    first_sequence: int
    last_sequence: int
    first_offset: int
    last_offset: int
    timestamp: int


@dataclass(slots=True)
class Producer:
    """The state of one producer id. epoch -1: nothing is known yet."""

    epoch: int = -1
    coordinator_epoch: int = -1
    first_open: int = -1
    """First offset of its open transaction; -1 when it has none."""
    timestamp: int = -1
    """Largest timestamp of its last batch or marker, ms; as the snapshot keeps it."""
    seen: int = 0
    """Wall clock of its last append or of the log's opening, ms; idleness counts from here."""
    written: deque[Written] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    @property
    def last_sequence(self) -> int:
        return self.written[-1].last_sequence if self.written else -1


@dataclass(frozen=True, slots=True)
class Marker:
    """A control batch that ends a transaction."""

    producer_id: int
    producer_epoch: int
    coordinator_epoch: int
    commit: bool
    offset: int
    timestamp: int


def last_sequence_of(header: BatchHeader) -> int:
    """The batch's last sequence; sequences go from 2^31-1 back to 0."""
    return (header.base_sequence + header.last_offset_delta) & MAX_SEQUENCE


class Producers:
    """All producers of one log. Not thread-safe: the log's lock is held around every call."""

    def __init__(self) -> None:
        self._by_id: dict[int, Producer] = {}
        self._open: dict[int, int] = {}

    def states(self) -> Mapping[int, Producer]:
        return self._by_id

    def restore(self, states: Mapping[int, Producer], now_ms: int) -> None:
        """Replaces everything, by a snapshot's content."""
        self._by_id = dict(states)
        for state in self._by_id.values():
            state.seen = now_ms
        self._open = {pid: s.first_open for pid, s in self._by_id.items() if s.first_open >= 0}

    def first_unstable(self) -> int | None:
        """First offset of the oldest open transaction."""
        return min(self._open.values(), default=None)

    def open_transactions(self) -> Mapping[int, int]:
        """Producer id -> first offset of its open transaction."""
        return self._open

    def duplicate(self, header: BatchHeader) -> Written | None:
        """The earlier append of the very same batch, if it is among the producer's last five."""
        state = self._by_id.get(header.producer_id)
        if state is None or state.epoch != header.producer_epoch or header.base_sequence < 0:
            return None
        wanted = (header.base_sequence, last_sequence_of(header))
        for written in state.written:
            if (written.first_sequence, written.last_sequence) == wanted:
                return written
        return None

    def check(self, headers: Iterable[BatchHeader]) -> None:
        """Raises what Kafka answers for data batches that do not fit; nothing changes."""
        ahead: dict[int, tuple[int, int]] = {}
        for header in headers:
            pid = header.producer_id
            if pid < 0:
                continue
            state = self._by_id.get(pid)
            epoch, last = ahead.get(pid, (state.epoch, state.last_sequence) if state else (-1, -1))
            if header.producer_epoch < epoch:
                raise InvalidProducerEpoch(
                    f"producer {pid} has epoch {epoch}, the batch has {header.producer_epoch}"
                )
            if state and state.first_open >= 0 and not header.is_transactional:
                raise InvalidTransactionState(
                    f"producer {pid} has a transaction open since offset {state.first_open}"
                )
            if header.base_sequence >= 0:
                _check_sequence(pid, epoch, last, header)
                ahead[pid] = (header.producer_epoch, last_sequence_of(header))

    def check_marker(self, marker: Marker) -> None:
        """Raises InvalidProducerEpoch or CoordinatorFenced for a marker that comes too late."""
        state = self._by_id.get(marker.producer_id)
        if state is None:
            return
        if marker.producer_epoch < state.epoch:
            raise InvalidProducerEpoch(
                f"producer {marker.producer_id} has epoch {state.epoch}, the marker has {marker.producer_epoch}"
            )
        if marker.coordinator_epoch < state.coordinator_epoch:
            raise CoordinatorFenced(
                f"producer {marker.producer_id} has coordinator epoch {state.coordinator_epoch}, "
                f"the marker has {marker.coordinator_epoch}"
            )

    def add(self, header: BatchHeader, now_ms: int) -> None:
        """A data batch was written (header has its final base offset)."""
        if header.producer_id < 0:
            return
        state = self._by_id.setdefault(header.producer_id, Producer())
        if header.producer_epoch != state.epoch:
            state.written.clear()
            state.epoch = header.producer_epoch
        if header.base_sequence >= 0:
            state.written.append(
                Written(
                    header.base_sequence,
                    last_sequence_of(header),
                    header.base_offset,
                    header.last_offset,
                    header.max_timestamp,
                )
            )
        state.timestamp = header.max_timestamp
        state.seen = now_ms
        if header.is_transactional and state.first_open < 0:
            state.first_open = header.base_offset
            self._open[header.producer_id] = header.base_offset

    def end(self, marker: Marker, now_ms: int) -> Aborted | None:
        """A marker was written; answers the transaction it aborted, for the transaction index."""
        state = self._by_id.setdefault(marker.producer_id, Producer())
        if marker.producer_epoch != state.epoch:
            state.written.clear()
            state.epoch = marker.producer_epoch
        state.coordinator_epoch = marker.coordinator_epoch
        state.timestamp = marker.timestamp
        state.seen = now_ms
        first = state.first_open
        state.first_open = -1
        self._open.pop(marker.producer_id, None)
        if first < 0 or marker.commit:
            return None
        others = self.first_unstable()
        stable = others if others is not None else marker.offset + 1
        return Aborted(marker.producer_id, first, marker.offset, stable)

    def expire(self, now_ms: int, idle_ms: int) -> int:
        """Forgets producers without an open transaction that were idle for `idle_ms`; answers how many."""
        gone = [pid for pid, s in self._by_id.items() if s.first_open < 0 and now_ms - s.seen >= idle_ms]
        for pid in gone:
            del self._by_id[pid]
        return len(gone)

    def copy(self) -> dict[int, Producer]:
        """States that no later append changes, for a snapshot written outside the log's lock."""
        return {pid: replace(s, written=deque(s.written, REMEMBERED)) for pid, s in self._by_id.items()}


def _check_sequence(pid: int, epoch: int, last: int, header: BatchHeader) -> None:
    """A new epoch begins at 0; within one, each follows the last. Of an unknown producer any is accepted:
    its batches may be gone by retention."""
    if epoch < 0:
        return
    if header.producer_epoch != epoch:
        expected = 0
    else:
        expected = last + 1 if last < MAX_SEQUENCE else 0
    if header.base_sequence != expected:
        raise OutOfOrderSequence(
            f"producer {pid} epoch {header.producer_epoch}: sequence {header.base_sequence} came, "
            f"{expected} is next"
        )
