"""What each transactional request does to a transaction. Errors are those of the newest versions.

Every rule takes the transaction as it is and gives a TxnStep; one that is refused leaves it as it was.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from tailrace.broker.coordinator.moment import Moment
from tailrace.broker.coordinator.offsets import TopicPartition
from tailrace.broker.coordinator.transaction import LAST_EPOCH, Markers, Transaction, TxnState, TxnStep
from tailrace.broker.coordinator.transaction_records import transaction_record
from tailrace.broker.wire.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class Producer:
    """Who asks: the producer id and epoch that InitProducerId gave."""

    producer_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Initialized:
    """The answer to InitProducerId."""

    error: ErrorCode
    producer_id: int = -1
    epoch: int = -1


def check(txn: Transaction | None, producer: Producer) -> ErrorCode:
    """`none` when the transactional id is this producer's and nothing is under way."""
    if txn is None or txn.producer_id != producer.producer_id:
        return ErrorCode.invalid_producer_id_mapping
    if txn.epoch != producer.epoch:
        return ErrorCode.producer_fenced
    return ErrorCode.concurrent_transactions if txn.busy else ErrorCode.none


def admits(txn: Transaction | None, producer: Producer, place: TopicPartition) -> ErrorCode:
    """`none` when this producer's rows may be appended there: its open transaction has the partition."""
    error = check(txn, producer)
    if error is not ErrorCode.none:
        return error
    assert txn is not None
    is_part = txn.state is TxnState.ONGOING and place in txn.partitions
    return ErrorCode.none if is_part else ErrorCode.invalid_txn_state


def add_partitions(
    txn: Transaction | None, producer: Producer, places: Collection[TopicPartition], now: Moment
) -> tuple[ErrorCode, TxnStep | None]:
    """Opens a transaction, or widens the open one. No step when there is nothing to store."""
    error = check(txn, producer)
    if error is not ErrorCode.none:
        return error, None
    assert txn is not None
    goes_on = txn.state is TxnState.ONGOING
    if goes_on and txn.partitions.issuperset(places):
        return ErrorCode.none, None
    grown = replace(
        txn,
        state=TxnState.ONGOING,
        partitions=(txn.partitions if goes_on else frozenset()) | frozenset(places),
        started=txn.started if goes_on else now.wall,
        updated=now.wall,
    )
    return ErrorCode.none, _stored(grown, now)


_REPEATED: dict[tuple[TxnState, bool], ErrorCode] = {
    (TxnState.PREPARE_COMMIT, True): ErrorCode.concurrent_transactions,
    (TxnState.PREPARE_ABORT, False): ErrorCode.concurrent_transactions,
    (TxnState.COMPLETE_COMMIT, True): ErrorCode.none,
    (TxnState.COMPLETE_ABORT, False): ErrorCode.none,
}
"""EndTxn when no transaction is open: its own repetition is fine, anything else is not."""


def end(
    txn: Transaction | None, producer: Producer, *, commit: bool, now: Moment
) -> tuple[ErrorCode, TxnStep | None]:
    """Begins to end the transaction. A commit first asks for the fsync of its rows; an abort can do without.

    The error is the answer when there is no step; else the answer is `none`, once PREPARE is on disk.
    """
    error = check(txn, producer)
    assert txn is not None or error is not ErrorCode.none
    if txn is None or error not in (ErrorCode.none, ErrorCode.concurrent_transactions):
        return error, None
    if txn.ending:
        return ErrorCode.concurrent_transactions, None
    if txn.state is not TxnState.ONGOING:
        return _REPEATED.get((txn.state, commit), ErrorCode.invalid_txn_state), None
    if not commit:
        return ErrorCode.none, prepare(txn, commit=False, now=now)
    return ErrorCode.none, _unstored(replace(txn, ending=True), now, flush=txn.partitions)


def prepare(txn: Transaction, *, commit: bool, now: Moment) -> TxnStep:
    """The point of no return: from here on every restart ends it the same way."""
    state = TxnState.PREPARE_COMMIT if commit else TxnState.PREPARE_ABORT
    step = _stored(replace(txn, state=state, updated=now.wall, ending=False), now)
    step.markers = markers_of(step.txn)
    return step


def fence(txn: Transaction, now: Moment) -> TxnStep:
    """Aborts the open transaction under an epoch that nobody has, so that its producer can do no more.

    The producer may go on by bumping its epoch, which gives it that one, as long as nobody else has come (KIP-588).
    """
    return prepare(replace(txn, epoch=txn.epoch + 1, last_epoch=txn.epoch), commit=False, now=now)


def complete(txn: Transaction, now: Moment) -> TxnStep:
    """All markers of a PREPARE_* are on disk."""
    done = {
        TxnState.PREPARE_COMMIT: TxnState.COMPLETE_COMMIT,
        TxnState.PREPARE_ABORT: TxnState.COMPLETE_ABORT,
    }[txn.state]
    return _stored(replace(txn, state=done, partitions=frozenset(), updated=now.wall), now)


def markers_of(txn: Transaction) -> Markers:
    """What a PREPARE_* has to write."""
    commit = txn.state is TxnState.PREPARE_COMMIT
    return Markers(txn.transactional_id, txn.producer_id, txn.epoch, commit, txn.partitions)


def initialize(
    txn: Transaction,
    expected: Producer | None,
    timeout: int,
    take_producer_id: Callable[[], int],
    now: Moment,
) -> tuple[Initialized, TxnStep | None]:
    """InitProducerId: the next epoch, which fences every producer before it; first aborts what one left open.

    expected: what the client believes it has (KIP-360): it bumps its own epoch after an error, and is fenced
    when somebody else came in between. `txn.epoch` -1: the transactional id was never heard of.
    """
    if expected is not None and not _may_bump(txn, expected):
        return Initialized(ErrorCode.producer_fenced), None
    if txn.busy:
        return Initialized(ErrorCode.concurrent_transactions), None
    if expected is not None and txn.state is TxnState.ONGOING and expected.epoch != txn.epoch:
        return Initialized(ErrorCode.producer_fenced), None
    if txn.state is TxnState.ONGOING:
        return Initialized(ErrorCode.concurrent_transactions), fence(txn, now)
    bumped = _bump(txn, expected, take_producer_id)
    if bumped is None:
        return Initialized(ErrorCode.producer_fenced), None
    bumped = replace(
        bumped, timeout=timeout, state=TxnState.EMPTY, partitions=frozenset(), started=-1, updated=now.wall
    )
    return Initialized(ErrorCode.none, bumped.producer_id, bumped.epoch), _stored(bumped, now)


def _may_bump(txn: Transaction, expected: Producer) -> bool:
    repeats_rotation = expected.producer_id == txn.last_producer_id and expected.epoch >= LAST_EPOCH
    return txn.epoch == -1 or expected.producer_id == txn.producer_id or repeats_rotation


def _bump(
    txn: Transaction, expected: Producer | None, take_producer_id: Callable[[], int]
) -> Transaction | None:
    """The transaction under its next epoch; None when `expected` is not the producer that may have it."""
    if expected is None or txn.epoch in (-1, expected.epoch):
        if txn.epoch >= LAST_EPOCH:
            return _rotate(txn, expected, take_producer_id)
        return replace(txn, epoch=txn.epoch + 1, last_epoch=-1 if expected is None else txn.epoch)
    if expected.epoch != txn.last_epoch:
        return None
    # The repetition of a bump whose answer was lost, or the first after a fence: nobody came in between, or
    # last_epoch would be -1. The epoch that is kept for fencing is for nobody.
    return _rotate(txn, expected, take_producer_id) if txn.epoch > LAST_EPOCH else txn


def _rotate(txn: Transaction, expected: Producer | None, take_producer_id: Callable[[], int]) -> Transaction:
    return replace(
        txn,
        producer_id=take_producer_id(),
        epoch=0,
        last_producer_id=txn.producer_id,
        last_epoch=-1 if expected is None else expected.epoch,
    )


def _stored(txn: Transaction, now: Moment) -> TxnStep:
    step = _unstored(txn, now)
    step.records = [transaction_record(txn)]
    return step


def _unstored(txn: Transaction, now: Moment, flush: frozenset[TopicPartition] | None = None) -> TxnStep:
    return TxnStep(txn, now, flush=flush, deadline=deadline(txn, now))


def deadline(txn: Transaction, now: Moment) -> int | None:
    """Steady ms at which an open transaction has lasted too long; None when it is not open."""
    if txn.state is not TxnState.ONGOING:
        return None
    left = txn.started + txn.timeout - now.wall
    return now.steady + min(max(left, 0), txn.timeout)
