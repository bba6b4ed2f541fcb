"""Idempotence and transactions by Kafka's rules, in the log and after every kind of restart."""

import pytest

from tailrace.broker.log import snapshot
from tailrace.broker.log.errors import (
    CoordinatorFenced,
    InvalidProducerEpoch,
    InvalidTransactionState,
    OutOfOrderSequence,
)
from tailrace.broker.log.producers import MAX_SEQUENCE, Producer, Written
from tailrace.broker.log.recovery import Start
from tailrace.errors import Corrupt
from tests.support.batches import marker, numbered, plain, values


def test_the_last_five_batches_are_known_again_with_their_first_offset(opened):
    log = opened()
    for i in range(7):
        log.append(numbered(1, 0, 2 * i, b"a", b"b"))
    for i in range(2, 7):
        done = log.append(numbered(1, 0, 2 * i, b"a", b"b"))
        assert (done.first_offset, done.last_offset, done.duplicate) == (2 * i, 2 * i + 1, True)
    assert log.leo == 14
    with pytest.raises(OutOfOrderSequence):
        log.append(numbered(1, 0, 2, b"a", b"b"))


def test_a_gap_or_a_half_repeat_is_out_of_order(opened):
    log = opened()
    log.append(numbered(1, 0, 0, b"a", b"b"))
    for sequence in (3, 1):
        with pytest.raises(OutOfOrderSequence, match="2 is next"):
            log.append(numbered(1, 0, sequence, b"x"))
    assert log.append(numbered(1, 0, 2, b"c")).first_offset == 2


def test_several_batches_of_one_append_follow_each_other(opened):
    log = opened()
    both = numbered(1, 0, 0, b"a") + numbered(1, 0, 1, b"b")
    assert log.append(both).last_offset == 1
    again = log.append(numbered(1, 0, 0, b"a") + numbered(1, 0, 1, b"b"))
    assert (again.first_offset, again.last_offset, again.duplicate) == (0, 1, True)
    with pytest.raises(OutOfOrderSequence):
        log.append(numbered(1, 0, 2, b"c") + numbered(1, 0, 4, b"e"))
    assert log.leo == 2


def test_sequences_wrap_to_zero(opened):
    log = opened()
    log.append(numbered(1, 0, MAX_SEQUENCE - 1, b"a", b"b", b"c"))
    assert log.producers()[1].last_sequence == 0
    assert log.append(numbered(1, 0, MAX_SEQUENCE - 1, b"a", b"b", b"c")).duplicate
    log.append(numbered(1, 0, 1, b"d"))
    log.append(numbered(2, 0, MAX_SEQUENCE, b"a"))
    assert log.append(numbered(2, 0, 0, b"b")).first_offset == 5


def test_an_unknown_producer_may_begin_anywhere_and_a_new_epoch_only_at_zero(opened):
    log = opened()
    log.append(numbered(1, 0, 40, b"a"))
    with pytest.raises(OutOfOrderSequence, match="0 is next"):
        log.append(numbered(1, 1, 41, b"b"))
    log.append(numbered(1, 1, 0, b"b"))
    with pytest.raises(InvalidProducerEpoch):
        log.append(numbered(1, 0, 41, b"old"))


def test_lso_waits_for_the_oldest_open_transaction(opened):
    log = opened()
    log.append(plain(b"x"))
    log.append(numbered(1, 0, 0, b"a", transactional=True))
    log.append(numbered(2, 0, 0, b"b", transactional=True))
    log.append(plain(b"y"))
    log.flush()
    assert log.lso == 1
    log.append(marker(1, 0, True), control=True)
    log.flush()
    assert log.lso == 2
    log.append(marker(2, 0, False), control=True)
    log.flush()
    assert log.lso == log.hw == 6


def test_aborted_transactions_are_listed_where_they_overlap(opened):
    log = opened(segment_bytes=300)
    for i in range(8):
        log.append(numbered(1, 0, i, b"x" * 40, transactional=True))
        log.append(marker(1, 0, commit=i % 2 == 0), control=True)
    firsts = [2, 6, 10, 14]
    assert [a.first_offset for a in log.aborted(0, 16)] == firsts
    assert [a.first_offset for a in log.aborted(4, 12)] == [6, 10]
    assert [a.first_offset for a in log.aborted(3, 6)] == [2]
    assert log.aborted(0, 2) == []
    assert {a.producer_id for a in log.aborted(0, 16)} == {1}


def test_an_old_coordinator_and_an_old_epoch_cannot_end_a_transaction(opened):
    log = opened()
    log.append(numbered(1, 3, 0, b"a", transactional=True))
    log.append(marker(1, 3, True, coordinator_epoch=5), control=True)
    with pytest.raises(CoordinatorFenced):
        log.append(marker(1, 3, False, coordinator_epoch=4), control=True)
    with pytest.raises(InvalidProducerEpoch):
        log.append(marker(1, 2, False, coordinator_epoch=6), control=True)
    assert log.leo == 2


def test_a_marker_with_a_newer_epoch_fences_the_producer(opened):
    log = opened()
    log.append(numbered(1, 0, 0, b"a", transactional=True))
    log.append(marker(1, 1, False), control=True)
    with pytest.raises(InvalidProducerEpoch):
        log.append(numbered(1, 0, 1, b"late", transactional=True))
    assert log.append(numbered(1, 1, 0, b"again", transactional=True)).first_offset == 2


def test_no_plain_batch_inside_a_transaction(opened):
    log = opened()
    log.append(numbered(1, 0, 0, b"a", transactional=True))
    with pytest.raises(InvalidTransactionState):
        log.append(numbered(1, 0, 1, b"b"))


@pytest.mark.parametrize("how", ["clean", "clean without snapshots", "unclean", "unclean without snapshots"])
def test_the_state_is_the_same_after_a_restart(opened, how, tmp_path):
    log = opened(segment_bytes=500)
    for i in range(12):
        log.append(numbered(1, 0, i, b"x" * 30))
        log.append(numbered(2, 4, i, b"y" * 30, transactional=True))
        if i % 3 == 2 and i < 9:
            log.append(marker(2, 4, commit=i == 5, coordinator_epoch=2), control=True)
    log.flush()
    before, lso, aborted = log.producers(), log.lso, log.aborted(0, log.leo)
    assert len(aborted) == 2
    log.close() if how.startswith("clean") else log.abandon()
    if how.endswith("without snapshots"):
        for path in (tmp_path / "t-0").glob("*.snapshot"):
            path.unlink()
    again = opened(Start(clean=how.startswith("clean")), segment_bytes=500)
    after = again.producers()
    for pid, state in before.items():
        found = after[pid]
        assert (found.epoch, found.last_sequence, found.first_open) == (
            state.epoch,
            state.last_sequence,
            state.first_open,
        )
        assert found.coordinator_epoch == state.coordinator_epoch
    assert (again.lso, again.aborted(0, again.leo)) == (lso, aborted)
    assert again.append(numbered(1, 0, 11, b"x" * 30)).duplicate
    assert again.append(numbered(1, 0, 12, b"z")).first_offset == log.leo


def test_a_snapshot_of_before_the_log_start_is_not_believed(opened):
    log = opened(segment_bytes=100)
    log.append(numbered(1, 0, 0, b"x" * 50, transactional=True))
    log.append(marker(1, 0, True), control=True)
    log.append(plain(b"y" * 50))
    log.flush()
    (tmp := snapshot.load_latest(log.directory, 1)) and snapshot.write(
        log._fs, log.directory, 0, snapshot.encode(tmp[1])
    )
    log.delete_before(2)
    log.abandon()
    assert opened(segment_bytes=100).lso == 3


def test_idle_producers_are_forgotten_but_never_inside_a_transaction(opened, clock):
    log = opened(producer_expiry_ms=60_000)
    log.append(numbered(1, 0, 0, b"a"))
    log.append(numbered(2, 0, 0, b"b", transactional=True))
    clock.advance(59)
    assert log.expire_producers(clock.now_ms()) == 0
    clock.advance(2)
    assert log.expire_producers(clock.now_ms()) == 1
    assert set(log.producers()) == {2}
    assert log.append(numbered(1, 0, 77, b"c")).first_offset == 2


def test_old_timestamps_do_not_make_a_producer_idle(opened, clock):
    log = opened(producer_expiry_ms=60_000)
    log.append(numbered(1, 0, 0, b"a", timestamp=5))
    assert log.expire_producers(clock.now_ms()) == 0


def test_a_snapshot_comes_back_as_it_was_and_a_damaged_one_is_refused():
    states = {7: Producer(3, 2, 100, 55), 8: Producer(0, -1, -1, 66), 9: Producer(1)}
    states[8].written.append(Written(MAX_SEQUENCE, 1, 40, 42, 66))
    data = snapshot.encode(states)
    assert snapshot.decode(data, "x") == states
    for damage in (data[:-1], data[:20] + bytes([data[20] ^ 1]) + data[21:], b"\0\x02" + data[2:], b""):
        with pytest.raises(Corrupt):
            snapshot.decode(damage, "x")


def test_a_torn_snapshot_means_reading_the_log(opened, tmp_path):
    log = opened(segment_bytes=300)
    for i in range(10):
        log.append(numbered(1, 0, i, b"x" * 50))
    log.close()
    for path in (tmp_path / "t-0").glob("*.snapshot"):
        path.write_bytes(path.read_bytes()[:-3])
    again = opened(Start(clean=True), segment_bytes=300)
    assert again.producers()[1].last_sequence == 9
    assert len(values(again)) == 10
