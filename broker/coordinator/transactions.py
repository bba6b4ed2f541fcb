"""The transactional ids of one partition of `__transaction_state`: step in; records, markers, answers out.

How a driver carries out a TxnStep, in this order, and nothing of it twice:

    1. flush: fsync the logs it names, then carry out prepare(id); on failure give_up(id)
    2. records: append them, in the same turn of the loop settle(step); on failure drop the step
    3. when everything appended so far is on disk: send the answers, begin to write the markers
    4. when every marker is on disk: carry out complete(id)

So a commit that was answered survives a power cut with its rows, and after a restart resume() gives the
markers that may be missing: written twice they do no harm. A request with an error and no step is answered
when what was appended so far is on disk.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from tailrace.broker.coordinator import transaction_rules as rules
from tailrace.broker.coordinator.moment import Moment
from tailrace.broker.coordinator.offsets import TopicPartition
from tailrace.broker.coordinator.timers import Timers
from tailrace.broker.coordinator.transaction import PREPARED, Markers, Transaction, TxnState, TxnStep
from tailrace.broker.coordinator.transaction_records import restore_transaction, transaction_tombstone
from tailrace.broker.coordinator.transaction_rules import Initialized, Producer
from tailrace.broker.wire.coordinator_records import (
    TransactionLogValue,
    decode_transaction_key,
    decode_value,
)
from tailrace.broker.wire.errors import ErrorCode

RETRY = 1_000
"""ms after which a time-out that could not be carried out is tried again."""


@dataclass(frozen=True, slots=True)
class TxnLimits:
    """In ms; Kafka's defaults."""

    max_timeout: int = 900_000
    id_expiration: int = 7 * 86_400_000


class TransactionCoordinator:
    """All state of one partition of the transaction log. Not thread-safe; every method returns at once."""

    def __init__(self, limits: TxnLimits | None = None) -> None:
        self.limits = limits or TxnLimits()
        self._txns: dict[str, Transaction] = {}
        self._timers: Timers[str] = Timers()

    def transaction(self, transactional_id: str) -> Transaction | None:
        return self._txns.get(transactional_id)

    def transactions(self) -> Collection[Transaction]:
        return tuple(self._txns.values())

    def initialize(
        self,
        transactional_id: str,
        expected: Producer | None,
        timeout: int,
        take_producer_id: Callable[[], int],
        now: Moment,
    ) -> tuple[Initialized, TxnStep | None]:
        """InitProducerId. `take_producer_id` is called at most once, for a new id or a used-up epoch."""
        if not transactional_id:
            return Initialized(ErrorCode.invalid_request), None
        if not 0 < timeout <= self.limits.max_timeout:
            return Initialized(ErrorCode.invalid_transaction_timeout), None
        txn = self._txns.get(transactional_id)
        if txn is None:
            txn = Transaction(transactional_id, take_producer_id(), timeout=timeout)
        return rules.initialize(txn, expected, timeout, take_producer_id, now)

    def add_partitions(
        self, transactional_id: str, producer: Producer, places: Collection[TopicPartition], now: Moment
    ) -> tuple[ErrorCode, TxnStep | None]:
        if not transactional_id:
            return ErrorCode.invalid_request, None
        return rules.add_partitions(self._txns.get(transactional_id), producer, places, now)

    def end(
        self, transactional_id: str, producer: Producer, *, commit: bool, now: Moment
    ) -> tuple[ErrorCode, TxnStep | None]:
        if not transactional_id:
            return ErrorCode.invalid_request, None
        return rules.end(self._txns.get(transactional_id), producer, commit=commit, now=now)

    def prepare(self, transactional_id: str, now: Moment) -> TxnStep:
        """The rows of a committing transaction are on disk."""
        return rules.prepare(self._txns[transactional_id], commit=True, now=now)

    def give_up(self, transactional_id: str) -> None:
        """The rows could not be fsynced, or PREPARE not be appended: the transaction is open as before."""
        self._txns[transactional_id] = replace(self._txns[transactional_id], ending=False)

    def complete(self, transactional_id: str, now: Moment) -> TxnStep:
        """Every marker is on disk."""
        return rules.complete(self._txns[transactional_id], now)

    def admits(self, transactional_id: str, producer: Producer, place: TopicPartition) -> ErrorCode:
        """`none` when this producer's rows may be appended there (KIP-890, part 1)."""
        return rules.admits(self._txns.get(transactional_id), producer, place)

    def settle(self, step: TxnStep) -> None:
        """The step's records, if it has any, are in the log."""
        transactional_id = step.txn.transactional_id
        if step.forget:
            self._txns.pop(transactional_id, None)
        else:
            self._txns[transactional_id] = step.txn
        self._timers.set(transactional_id, step.deadline)

    def next_deadline(self) -> int | None:
        """Steady ms at which due() has something."""
        return self._timers.next()

    def due(self, now: Moment) -> Iterator[TxnStep]:
        """Aborts what has lasted longer than its time-out. Settle (or drop) each step before the next."""
        while (transactional_id := self._timers.pop(now.steady)) is not None:
            self._timers.set(transactional_id, now.steady + RETRY)
            txn = self._txns[transactional_id]
            if txn.state is TxnState.ONGOING and not txn.ending:
                yield rules.fence(txn, now)

    def expired(self, now: Moment) -> Iterator[TxnStep]:
        """Transactional ids that nobody has used for a week; settle each step before the next."""
        for transactional_id, txn in tuple(self._txns.items()):
            idle = txn.state is not TxnState.ONGOING and not txn.busy
            if idle and txn.updated + self.limits.id_expiration <= now.wall:
                yield TxnStep(txn, now, [transaction_tombstone(transactional_id)], forget=True)

    def replay(self, records: Iterable[tuple[int, bytes | None, bytes | None]]) -> None:
        """Records of one batch as (offset, key, value). Corrupt, or ValueError, when one cannot be read."""
        for _, key_bytes, value in records:
            key = decode_transaction_key(key_bytes) if key_bytes is not None else None
            if key is None:
                continue
            if value is None:
                self._txns.pop(key.transactional_id, None)
                continue
            found = decode_value(TransactionLogValue, value)
            self._txns[key.transactional_id] = restore_transaction(key.transactional_id, found)

    def resume(self, now: Moment) -> list[Markers]:
        """After replay: sets the time-outs of open transactions, answers the markers of prepared ones."""
        for transactional_id, txn in self._txns.items():
            self._timers.set(transactional_id, rules.deadline(txn, now))
        return [rules.markers_of(txn) for txn in self._txns.values() if txn.state in PREPARED]
