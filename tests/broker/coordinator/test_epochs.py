"""Epochs are 16 bits: the last ones, and the producer id that comes after them."""

from dataclasses import replace

from tailrace.broker.coordinator.moment import Moment
from tailrace.broker.coordinator.transaction import LAST_EPOCH, Transaction, TxnState
from tailrace.broker.coordinator.transaction_rules import Producer, complete, fence, initialize
from tailrace.broker.wire.errors import ErrorCode

NOW = Moment(1, 1)


def started(txn: Transaction, expected: Producer | None) -> tuple[Transaction | ErrorCode, bool]:
    """What the transaction is after InitProducerId (or its error), and whether it took a new producer id."""
    taken = []

    def take() -> int:
        taken.append(9)
        return 9

    answer, step = initialize(txn, expected, 1000, take, NOW)
    if answer.error is not ErrorCode.none:
        return answer.error, bool(taken)
    assert step is not None
    assert (answer.producer_id, answer.epoch) == (step.txn.producer_id, step.txn.epoch)
    return step.txn, bool(taken)


def test_after_the_last_epoch_comes_a_new_producer_id() -> None:
    last, taken = started(Transaction("x", 5, LAST_EPOCH - 1), None)
    assert isinstance(last, Transaction)
    assert (last.producer_id, last.epoch, taken) == (5, LAST_EPOCH, False)
    new, taken = started(last, None)
    assert isinstance(new, Transaction)
    assert (new.producer_id, new.epoch, taken) == (9, 0, True)


def test_a_bump_of_the_last_epoch_is_a_new_id_and_may_be_repeated() -> None:
    txn = Transaction("x", 5, LAST_EPOCH)
    new, taken = started(txn, Producer(5, LAST_EPOCH))
    assert isinstance(new, Transaction)
    assert (new.producer_id, new.epoch, taken) == (9, 0, True)
    again, taken = started(new, Producer(5, LAST_EPOCH))
    assert isinstance(again, Transaction)
    assert (again.producer_id, again.epoch, taken) == (9, 0, False)
    rival, _ = started(again, None)
    assert isinstance(rival, Transaction)
    assert started(rival, Producer(5, LAST_EPOCH))[0] is ErrorCode.producer_fenced


def test_the_epoch_above_the_last_fences_and_is_given_to_nobody() -> None:
    open_ = Transaction(
        "x", 5, LAST_EPOCH, state=TxnState.ONGOING, partitions=frozenset({("t", 0)}), started=1
    )
    fenced = fence(open_, NOW).txn
    assert fenced.epoch == LAST_EPOCH + 1 == 2**15 - 1
    ended = complete(fenced, NOW).txn
    for expected in (None, Producer(5, LAST_EPOCH)):
        new, taken = started(ended, expected)
        assert isinstance(new, Transaction)
        assert (new.producer_id, new.epoch, taken) == (9, 0, True)
    assert started(replace(ended, last_epoch=-1), Producer(5, LAST_EPOCH))[0] is ErrorCode.producer_fenced
