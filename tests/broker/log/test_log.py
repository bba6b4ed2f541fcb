"""Append and read, rolling, flushing, and what a disk that refuses leaves behind."""

import errno
import os
import threading

import pytest

from tailrace.broker.log.errors import OffsetOutOfRange
from tailrace.broker.log.recovery import Start
from tailrace.broker.wire.batch import read_header
from tailrace.errors import Corrupt
from tailrace.failpoint import arm
from tailrace.fs import LocalFileSystem
from tests.support.batches import NOW, keyed, marker, numbered, plain, read_all, values


class Refusing(LocalFileSystem):
    """Writes a part and then says that the disk is full; fsync and truncate fail when told so."""

    def __init__(self) -> None:
        self.full = self.no_fsync = self.no_truncate = False

    def write(self, fd, data):
        if self.full:
            super().write(fd, memoryview(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(fd, data)

    def fsync(self, path_or_fd):
        if self.no_fsync:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().fsync(path_or_fd)

    def truncate(self, path_or_fd, size):
        if self.no_truncate:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().truncate(path_or_fd, size)


@pytest.fixture(autouse=True)
def disarmed():
    yield
    arm("")


def test_offsets_and_epoch_are_stamped_and_rows_come_back(opened):
    log = opened()
    first = log.append(plain(b"a", b"b"))
    both = log.append(plain(b"c") + plain(b"d", b"e"))
    assert (first.first_offset, first.last_offset) == (0, 1)
    assert (both.first_offset, both.last_offset) == (2, 4)
    assert [(r.offset, r.value) for r in read_all(log)] == list(enumerate([b"a", b"b", b"c", b"d", b"e"]))
    assert read_header(log.read(0, 1 << 20, log.leo).read()).leader_epoch == log.leader_epoch == 0


def test_a_read_gives_whole_batches_and_the_first_one_whatever_its_size(opened):
    log = opened()
    one = len(plain(b"x" * 100))
    for _ in range(5):
        log.append(plain(b"x" * 100))
    assert log.read(0, 1, 5).length == one
    assert log.read(0, 2 * one + 5, 5).length == 2 * one
    assert log.read(1, 1 << 20, 3).length == 2 * one
    assert log.read(3, 1 << 20, 3) is None
    assert log.read(5, 1 << 20, 5) is None


def test_a_read_from_the_middle_of_a_batch_gives_the_whole_batch_and_one_up_to_its_middle_none(opened):
    log = opened()
    log.append(plain(b"a", b"b", b"c"))
    assert log.read(1, 1, 3).position == 0
    assert log.read(0, 1 << 20, 2) is None


def test_reads_outside_the_log_are_refused(opened):
    log = opened()
    log.append(plain(b"a"))
    for offset in (-1, 2):
        with pytest.raises(OffsetOutOfRange):
            log.read(offset, 100, 1)


def test_a_bad_crc_is_refused_and_nothing_is_written(opened):
    log = opened()
    bad = plain(b"a")
    bad[-1] ^= 1
    with pytest.raises(Corrupt):
        log.append(plain(b"fine") + bad)
    assert (log.leo, log.size) == (0, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        plain(b"a")[:-1],
        marker(1, 0, True),
        keyed([(b"k", b"v")], producer_id=5),
        keyed([(b"k", b"v")], transactional=True),
    ],
    ids=["nothing", "cut short", "marker", "producer without epoch", "transaction without producer"],
)
def test_what_a_producer_may_not_send_is_refused(opened, wrong):
    log = opened()
    with pytest.raises(Corrupt):
        log.append(bytearray(wrong))
    assert log.leo == 0


def test_segments_roll_by_size_and_reads_cross_them(opened, tmp_path):
    log = opened(segment_bytes=300)
    for i in range(20):
        log.append(plain(b"%d" % i * 40))
    assert len(log.bases) > 5
    assert values(log) == [b"%d" % i * 40 for i in range(20)]
    assert values(log, start=13) == [b"%d" % i * 40 for i in range(13, 20)]
    names = sorted(p.name for p in (tmp_path / "t-0").glob("*.log"))
    assert names == [f"{base:020d}.log" for base in log.bases]


def test_segments_roll_by_time(opened, clock):
    log = opened(segment_ms=60_000)
    log.append(plain(b"a"))
    clock.advance(59)
    log.append(plain(b"b"))
    assert log.bases == [0]
    clock.advance(2)
    log.append(plain(b"c"))
    assert log.bases == [0, 2]


def test_every_offset_is_found_in_a_log_with_many_index_entries(opened):
    log = opened(segment_bytes=20_000, index_interval_bytes=200)
    for i in range(600):
        log.append(plain(*[b"%d" % i] * (i % 3 + 1)))
    for offset in range(0, log.leo, 7):
        data = log.read(offset, 1, log.leo).read()
        header = read_header(data)
        assert header.base_offset <= offset <= header.last_offset


def test_flushed_follows_flush_and_lso_never_passes_it(opened):
    log = opened(segment_bytes=200)
    for i in range(10):
        log.append(plain(b"%d" % i * 50))
    assert (log.hw, log.flushed, log.lso) == (10, 0, 0)
    assert log.flush() == 10
    assert (log.flushed, log.lso) == (10, 10)


def test_flush_and_append_go_on_at_once(opened):
    log = opened(segment_bytes=5000)
    stop = threading.Event()
    seen = []

    def flusher():
        while not stop.is_set():
            before = log.leo
            assert log.flush() >= before
            seen.append(log.flushed)

    threads = [threading.Thread(target=flusher) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(500):
        log.append(plain(b"%d" % i * 20))
    stop.set()
    for thread in threads:
        thread.join()
    assert log.flush() == log.leo == 500
    assert values(log) == [b"%d" % i * 20 for i in range(500)]


def test_a_full_disk_leaves_nothing_and_the_log_goes_on(opened):
    fs = Refusing()
    log = opened(fs=fs)
    log.append(numbered(7, 0, 0, b"a"))
    fs.full = True
    with pytest.raises(OSError, match="No space") as caught:
        log.append(numbered(7, 0, 1, b"lost" * 100))
    assert caught.value.errno == errno.ENOSPC
    fs.full = False
    assert log.append(numbered(7, 0, 1, b"b")).first_offset == 1
    assert values(log) == [b"a", b"b"]
    log.abandon()
    assert values(opened()) == [b"a", b"b"]


def test_a_full_disk_while_rolling_leaves_the_log_usable(opened):
    log = opened(segment_bytes=100)
    log.append(plain(b"a" * 50))
    for place in ("log.roll_before_indexes", "log.roll_before_create", "log.roll_after_create"):
        arm(f"{place}=enospc")
        with pytest.raises(OSError, match="No space"):
            log.append(plain(b"b" * 50))
    arm("")
    log.append(plain(b"c" * 50))
    log.append(plain(b"d" * 50))
    log.flush()
    log.abandon()
    assert values(opened()) == [b"a" * 50, b"c" * 50, b"d" * 50]


def test_an_append_that_cannot_be_taken_back_stops_the_log(opened):
    fs = Refusing()
    log = opened(fs=fs)
    log.append(plain(b"a"))
    fs.full = fs.no_truncate = True
    with pytest.raises(OSError, match="No space"):
        log.append(plain(b"b"))
    fs.full = fs.no_truncate = False
    with pytest.raises(OSError, match="takes nothing more"):
        log.append(plain(b"c"))
    assert values(log) == [b"a"]
    log.abandon()
    assert values(opened()) == [b"a"]


def test_a_failed_fsync_stops_the_log_and_is_never_taken_back(opened):
    fs = Refusing()
    log = opened(fs=fs)
    log.append(plain(b"a"))
    fs.no_fsync = True
    with pytest.raises(OSError):
        log.flush()
    fs.no_fsync = False
    for verb in (log.flush, lambda: log.append(plain(b"b"))):
        with pytest.raises(OSError, match="takes nothing more"):
            verb()
    assert (log.flushed, log.leo) == (0, 1)


def test_a_reader_keeps_a_deleted_segment(opened, tmp_path):
    log = opened(segment_bytes=100)
    for i in range(4):
        log.append(plain(b"%d" % i * 50))
    held = log.read(0, 1 << 20, log.leo)
    log.delete_before(3)
    assert not (tmp_path / "t-0" / f"{0:020d}.log").exists()
    assert b"0" * 50 in held.read()
    with pytest.raises(OffsetOutOfRange):
        log.read(0, 100, log.leo)


def test_delete_before_moves_the_start_into_a_segment(opened):
    log = opened()
    log.append(plain(b"a", b"b"))
    log.append(plain(b"c"))
    assert log.delete_before(1) == 1
    assert log.delete_before(0) == 1
    assert values(log) == [b"b", b"c"]
    with pytest.raises(OffsetOutOfRange):
        log.delete_before(4)
    assert log.delete_before(-1) == log.hw == log.log_start == 3


def test_retention_by_age_takes_whole_segments_and_the_active_one_too(opened, clock):
    log = opened(segment_bytes=100, retention_ms=60_000)
    for i in range(4):
        log.append(plain(b"%d" % i * 50, timestamp=clock.now_ms()))
        clock.advance(30)
    assert log.retain(clock.now_ms()) == 2
    assert (log.log_start, values(log)) == (2, [b"2" * 50, b"3" * 50])
    clock.advance(300)
    assert log.retain(clock.now_ms()) == 2
    assert (log.log_start, log.leo, log.bases) == (4, 4, [4])
    assert log.append(plain(b"x")).first_offset == 4


def test_retention_by_size_keeps_at_least_the_bound(opened, clock):
    log = opened(segment_bytes=100, retention_bytes=300, retention_ms=-1)
    for i in range(8):
        log.append(plain(b"%d" % i * 50))
    log.retain(clock.now_ms())
    assert 300 <= log.size < 300 + 130
    assert values(log)[-1] == b"7" * 50


def test_log_append_time_replaces_the_producers_timestamps(opened, clock):
    log = opened(log_append_time=True)
    clock.advance(5)
    done = log.append(plain(b"a", b"b", timestamp=1))
    assert done.log_append_time == clock.now_ms()
    assert {r.timestamp for r in read_all(log)} == {clock.now_ms()}


def test_offsets_are_found_by_time(opened):
    log = opened(segment_bytes=400, index_interval_bytes=100)
    for i in range(30):
        log.append(plain(b"a", b"b", timestamp=NOW + 10 * i))
    assert log.offset_for_time(NOW) == (NOW, 0)
    assert log.offset_for_time(NOW + 1) == (NOW + 1, 1)
    assert log.offset_for_time(NOW + 2) == (NOW + 10, 2)
    assert log.offset_for_time(NOW + 205) == (NOW + 210, 42)
    assert log.offset_for_time(NOW + 292) is None
    assert log.max_timestamp() == (NOW + 291, 59)


def test_time_goes_back_and_the_first_late_enough_record_is_found(opened):
    log = opened(index_interval_bytes=0)
    for t in (50, 10, 40, 60, 20):
        log.append(plain(b"x", timestamp=NOW + t))
    assert log.offset_for_time(NOW + 45) == (NOW + 50, 0)
    assert log.offset_for_time(NOW + 55) == (NOW + 60, 3)
    log.delete_before(1)
    assert log.offset_for_time(NOW + 30) == (NOW + 40, 2)


def test_leader_epochs_answer_where_they_ended(opened):
    log = opened()
    log.append(plain(b"a"))
    log.append(plain(b"b"), leader_epoch=3)
    log.append(plain(b"c"), leader_epoch=5)
    assert log.epoch_end(0) == (0, 1)
    assert log.epoch_end(1) == (0, 1)
    assert log.epoch_end(3) == (3, 2)
    assert log.epoch_end(5) == (5, 3)
    assert log.epoch_end(6) == (-1, -1)
    log.abandon()
    again = opened()
    assert again.leader_epoch == 6
    assert again.epoch_end(5) == (5, 3)


def test_a_clean_stop_scans_nothing_and_keeps_the_epoch(opened):
    log = opened(segment_bytes=300)
    for i in range(10):
        log.append(numbered(9, 0, i, b"%d" % i * 30))
    before = log.producers()
    log.close()
    again = opened(start=Start(clean=True), segment_bytes=300)
    assert (again.leader_epoch, again.leo, again.cuts) == (0, 10, [])
    assert again.producers()[9].last_sequence == before[9].last_sequence
    assert again.append(numbered(9, 0, 10, b"next")).first_offset == 10
    assert again.append(numbered(9, 0, 10, b"next")).duplicate
