"""Compaction: what stays, what goes, and that offsets, sequences and open transactions survive it."""

import random
import struct
import threading
from pathlib import Path

import crc32c
import pytest

from tailrace.broker.log.recovery import Start
from tailrace.broker.wire.batch import check_batch
from tests.support.batches import NOW, keyed, marker, plain, read_all

HOUR = 3_600_000


@pytest.fixture
def compacted(opened):
    def open_it(**config):
        defaults = {
            "compact": True, "delete": False, "segment_bytes": 600, "min_cleanable_dirty_ratio": 0.0, "delete_retention_ms": HOUR,
        }  # fmt: skip
        return opened(**defaults | config)

    return open_it


def settle(log, now=NOW):
    """Compacts everything written so far."""
    log.roll()
    log.append(keyed([(b"end", b"%d" % log.leo)]))
    log.flush()
    return log.compact(now)


def rows(log):
    return {r.offset: (r.key, r.value) for r in read_all(log) if r.key != b"end"}


def forget_snapshots(log):
    """The next start must read the batches themselves."""
    for path in Path(log.directory).glob("*.snapshot"):
        path.unlink()


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_the_last_record_of_each_key_stays_at_its_offset(compacted, codec):
    log, written = compacted(), {}
    for i in range(60):
        pairs = [(b"k%d" % random.Random(i).randrange(9), b"%d" % i), (b"k%d" % (i % 5), b"+%d" % i)]
        first = log.append(keyed(pairs, codec=codec)).first_offset
        written |= {first + j: pair for j, pair in enumerate(pairs)}
    size = log.size
    assert settle(log)
    latest = {key: offset for offset, (key, _) in sorted(written.items())}
    assert rows(log) == {offset: written[offset] for offset in latest.values()}
    assert log.size < size / 2
    assert log.leo == 121


def test_every_batch_is_still_sound_and_segments_end_where_they_ended(compacted):
    log = compacted()
    for i in range(40):
        log.append(keyed([(b"k%d" % (i % 3), b"v" * 50)]))
    settle(log)
    offset, ends = 0, set()
    while (part := log.read(offset, 1 << 20, log.leo)) is not None:
        data, at = part.read(), 0
        while at < len(data):
            header = check_batch(data, at)
            at, offset = at + header.size, header.next_offset
        ends.add(offset)
    assert set(log.bases[1:]) <= ends | {0}


def test_it_is_not_done_for_too_little_or_for_topics_that_keep_all(compacted):
    log = compacted(min_cleanable_dirty_ratio=0.5)
    for _ in range(20):
        log.append(keyed([(b"k", b"v" * 50)]))
    assert settle(log)
    assert not log.compact(NOW)
    plain_log = compacted(compact=False)
    assert not plain_log.compact(NOW)


def test_small_segments_are_put_together(compacted):
    log = compacted()
    for i in range(60):
        log.append(keyed([(b"k%d" % (i % 2), b"v" * 80)]))
    settle(log)
    before = len(log.bases)
    log.append(keyed([(b"x", b"y" * 600)]))
    settle(log)
    assert len(log.bases) < before / 2
    assert set(rows(log).values()) == {(b"k0", b"v" * 80), (b"k1", b"v" * 80), (b"x", b"y" * 600)}


def test_tombstones_stay_for_a_while_and_then_go(compacted):
    log = compacted()
    log.append(keyed([(b"a", b"1"), (b"b", b"2")]))
    log.append(keyed([(b"a", None)]))
    settle(log)
    assert rows(log) == {1: (b"b", b"2"), 2: (b"a", None)}
    settle(log, NOW + HOUR - 1)
    assert rows(log) == {1: (b"b", b"2"), 2: (b"a", None)}
    settle(log, NOW + HOUR + 1)
    assert rows(log) == {1: (b"b", b"2")}


def test_timestamps_survive_the_delete_horizon(compacted):
    log = compacted()
    log.append(keyed([(b"a", None), (b"b", b"2")], timestamp=NOW + 5))
    settle(log)
    assert {r.timestamp for r in read_all(log, upto=2)} == {NOW + 5}


def test_an_open_transaction_is_not_touched(compacted):
    log = compacted()
    log.append(keyed([(b"k", b"old")]))
    log.append(
        keyed([(b"k", b"in txn")], producer_id=1, producer_epoch=0, base_sequence=0, transactional=True)
    )
    for i in range(20):
        log.append(keyed([(b"k", b"new %d" % i * 10)]))
    settle(log)
    assert rows(log)[1] == (b"k", b"in txn")
    assert log.lso == 1


def test_aborted_rows_go_and_do_not_hide_older_ones(compacted):
    log = compacted()
    log.append(keyed([(b"k", b"committed")]))
    log.append(
        keyed([(b"k", b"aborted")], producer_id=1, producer_epoch=0, base_sequence=0, transactional=True)
    )
    log.append(marker(1, 0, False), control=True)
    settle(log)
    found = [(r.key, r.value) for r in read_all(log) if r.key == b"k"]
    assert found == [(b"k", b"committed")]
    assert log.lso == log.leo


def test_committed_rows_and_their_marker_stay_so_the_transaction_is_not_open_again(compacted, opened):
    log = compacted()
    log.append(keyed([(b"k", b"v")], producer_id=1, producer_epoch=0, base_sequence=0, transactional=True))
    log.append(marker(1, 0, True), control=True)
    for hours in (0, 2, 4):
        settle(log, NOW + hours * HOUR)
    forget_snapshots(log)
    log.abandon()
    again = compacted(start=Start(recovery_point=log.leo))
    assert again.lso == again.leo
    assert rows(again)[0] == (b"k", b"v")


def test_a_producers_last_sequence_is_not_forgotten(compacted):
    log = compacted()
    log.append(keyed([(b"k", b"1")], producer_id=1, producer_epoch=2, base_sequence=0))
    log.append(keyed([(b"k", b"2")], producer_id=1, producer_epoch=2, base_sequence=1))
    for _ in range(20):
        log.append(keyed([(b"k", b"other" * 20)]))
    settle(log)
    forget_snapshots(log)
    log.abandon()
    again = compacted(start=Start(recovery_point=log.leo))
    assert again.append(keyed([(b"k", b"2")], producer_id=1, producer_epoch=2, base_sequence=1)).duplicate
    assert b"2" not in {value for _, value in rows(again).values()}


def test_records_without_a_key_and_batches_that_cannot_be_read_stay(compacted):
    log = compacted()
    log.append(plain(b"no key"))
    bad = keyed([(b"k", b"v" * 100)], codec="lz4")
    bad[70] ^= 0xFF
    struct.pack_into(">I", bad, 17, crc32c.crc32c(bytes(bad[21:])))
    log.append(bad)
    log.append(keyed([(b"k", b"new")]))
    size = log.size
    settle(log)
    assert log.size >= size
    assert log.read(1, 1, 2).length == len(bad)


def test_more_keys_than_a_pass_can_hold_take_several_passes(compacted, monkeypatch):
    monkeypatch.setattr("tailrace.broker.log.compaction.MAX_KEYS", 20)
    log = compacted()
    for i in range(120):
        log.append(keyed([(b"k%d" % (i % 45), b"%d" % i)]))
    passes = 0
    while settle(log) and passes < 30:
        passes += 1
        latest = dict(rows(log).values())
        assert latest == {b"k%d" % k: b"%d" % max(i for i in range(120) if i % 45 == k) for k in range(45)}
    assert len(rows(log)) <= 90


def test_readers_are_right_while_segments_are_exchanged(compacted):
    log = compacted()
    for i in range(150):
        log.append(keyed([(b"k%d" % (i % 7), b"%d" % i * 20)]))
    latest = {b"k%d" % k: b"%d" % max(i for i in range(150) if i % 7 == k) * 20 for k in range(7)}
    stop, wrong = threading.Event(), []

    def read():
        while not stop.is_set():
            found = {}
            for key, value in rows(log).values():
                found[key] = value
            if found != latest:
                wrong.append(found)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        settle(log)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
