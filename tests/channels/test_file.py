"""The file channel's own promises: disk, damage, fsync, refusals; what it shares with others is in conformance."""

import errno
import os
import threading
from pathlib import Path

import pytest
from pydantic import ValidationError

from tailrace.channels.file import FileChannel, FileChannelSettings
from tailrace.clock import SystemClock
from tailrace.component import Context
from tailrace.errors import Corrupt, Halt, Retry
from tailrace.event import Record
from tailrace.failpoint import arm
from tailrace.fs import LocalFileSystem
from tests.support.event_batches import Feed, bodies

SOON = 20.0


class Watched(LocalFileSystem):
    """Counts fsyncs, lets them wait, and can be full."""

    def __init__(self) -> None:
        self.fsyncs = 0
        self.free = 10**12
        self.full = False
        self.gate = threading.Event()
        self.gate.set()

    def fsync(self, path_or_fd):
        self.fsyncs += 1
        self.gate.wait(SOON)
        super().fsync(path_or_fd)

    def free_bytes(self, path):
        return self.free

    def write(self, fd, data):
        if self.full:
            super().write(fd, memoryview(data)[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(fd, data)


@pytest.fixture
def fs():
    return Watched()


@pytest.fixture
def make(tmp_path, fs):
    opened = []

    def made(**settings) -> FileChannel:
        context = Context("p", "a", "c1", "0" * 32, tmp_path, clock=SystemClock(), fs=fs)
        channel = FileChannel(FileChannelSettings(type="file", **settings), context)
        channel.open()
        opened.append(channel)
        return channel

    yield made
    arm("")
    fs.gate.set()
    for channel in opened:
        channel.close()


def rows_of(channel, count):
    found = []
    while len(found) < count:
        batch = channel.take(SOON)
        assert batch is not None
        found += bodies(batch)
    return found


def log_files(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.rglob("*.log"))


def test_rows_are_not_given_before_they_are_fsynced(make, fs):
    channel, feed = make(), Feed()
    while channel.take(0):
        pass
    fs.gate.clear()
    thread = threading.Thread(target=lambda: channel.put(feed.batch(b"a"), 0))
    thread.start()
    while channel._log.leo < 3:
        threading.Event().wait(0.001)
    assert channel.take(0) is None
    assert channel.committed() == {}
    fs.gate.set()
    thread.join(SOON)
    assert rows_of(channel, 1) == [b"a"]


def test_puts_that_come_together_share_an_fsync(make, fs):
    channel = make()
    fs.gate.clear()
    threads = [
        threading.Thread(target=lambda n=n: channel.put(Feed(n).batch(b"%d" % n), SOON)) for n in range(8)
    ]
    before, leo = fs.fsyncs, channel._log.leo
    for thread in threads:
        thread.start()
    while channel._log.leo < leo + 16:
        threading.Event().wait(0.001)
    fs.gate.set()
    for thread in threads:
        thread.join(SOON)
    assert fs.fsyncs - before <= 2
    assert sorted(rows_of(channel, 8)) == [b"%d" % n for n in range(8)]


def test_a_put_that_the_disk_refuses_comes_again_and_nothing_is_doubled(make, fs):
    channel, feed = make(), Feed()
    channel.put(feed.batch(b"a"), 0)
    more = feed.batch(b"b" * 5000)
    fs.full = True
    with pytest.raises(Retry, match="No space left"):
        channel.put(more, 0)
    assert channel.committed()[feed.partition].position == 10
    fs.full = False
    assert channel.put(more, 0)
    assert rows_of(channel, 2) == [b"a", b"b" * 5000]


def test_a_disk_that_refuses_the_snapshot_of_a_new_segment_delays_only(make, fs, tmp_path):
    channel, feed = make(segment=2**16), Feed()
    channel.put(feed.batch(b"a" * 60_000), 0)
    more = feed.batch(b"b" * 60_000)
    for place in (
        "channel.roll_before",
        "log.roll_before_create",
        "channel.roll_after",
        "log.append_before_write",
    ):
        arm(f"{place}=enospc")
        with pytest.raises(Retry):
            channel.put(more, 0)
    arm("")
    assert channel.put(more, 0)
    channel.close()
    again = make(segment=2**16)
    assert again.committed() == {feed.partition: feed.record()}
    assert rows_of(again, 2) == [b"a" * 60_000, b"b" * 60_000]


def test_min_free_is_refused_beforehand_with_the_numbers(make, fs):
    channel, feed = make(min_free="1GiB"), Feed()
    fs.free = 2**30 + 10
    with pytest.raises(Retry, match=r"1\.0 GiB free, 1\.0 GiB must stay so \(min_free\)"):
        channel.put(feed.batch(b"x" * 1000), 0)
    assert channel.committed() == {}
    fs.free = 2**31
    assert channel.put(feed.batch(b"x"), 0)


def test_a_failed_fsync_stops_the_channel_and_no_source_was_answered(make):
    channel, feed = make(), Feed()
    channel.put(feed.batch(b"a"), 0)
    arm("log.flush_before_sync=error@1-1")
    with pytest.raises(Halt, match="check the disk"):
        channel.put(feed.batch(b"b"), 0)
    assert channel.committed()[feed.partition].position == 10
    with pytest.raises(Halt):
        channel.put(feed.batch(b"c"), 0)


def test_a_torn_tail_is_cut_and_put_again(make, tmp_path):
    channel, feed = make(), Feed()
    channel.put(feed.batch(b"a"), 0)
    channel.put(feed.batch(b"b"), 0)
    channel.close()
    path = log_files(tmp_path)[-1]
    os.truncate(path, path.stat().st_size - 3)
    again = make()
    assert again.committed()[feed.partition].position == 10
    assert again.put(Feed(0, start=10).batch(b"b"), 0)
    assert rows_of(again, 2) == [b"a", b"b"]


def test_a_tail_of_zeros_is_cut(make, tmp_path):
    channel, feed = make(), Feed()
    channel.put(feed.batch(b"a"), 0)
    channel.close()
    with log_files(tmp_path)[-1].open("ab") as file:
        file.write(bytes(9000))
    assert rows_of(make(), 1) == [b"a"]


@pytest.mark.parametrize(
    "offset_of_damage", [70, 16, 8, 3, 25], ids=["body", "magic", "length", "offset", "header"]
)
def test_damage_before_durable_rows_stops_it_with_file_and_offset(make, tmp_path, offset_of_damage):
    channel, feed = make(), Feed()
    sizes = []
    for i in range(4):
        channel.put(feed.batch(b"%d" % i * 30), 0)
        sizes.append(log_files(tmp_path)[-1].stat().st_size)
    channel.close()
    path = log_files(tmp_path)[-1]
    with path.open("r+b") as file:
        file.seek(sizes[0] + offset_of_damage)
        byte = file.read(1)
        file.seek(sizes[0] + offset_of_damage)
        file.write(bytes([byte[0] ^ 0x55]))
    with pytest.raises(
        Corrupt, match=rf"{path}: the batch at byte {sizes[0]} \(offset 3\) is damaged.*once durable"
    ):
        make()


def test_damage_in_an_older_segment_stops_the_take_with_file_and_offset(make, tmp_path):
    channel, feed = make(segment=2**16), Feed()
    for i in range(6):
        channel.put(feed.batch(b"%d" % i * 30_000), 0)
    channel.close()
    path = log_files(tmp_path)[1]
    with path.open("r+b") as file:
        file.seek(20_000)
        file.write(b"!")
    channel = make(segment=2**16)
    with pytest.raises(Corrupt, match=rf"{path}: the batch at byte [0-9]+ \(offset [0-9]+\) is damaged"):
        rows_of(channel, 6)


def test_a_missing_segment_is_noticed(make, tmp_path):
    channel, feed = make(segment=2**16), Feed()
    for i in range(8):
        channel.put(feed.batch(b"%d" % i * 30_000), 0)
    channel.close()
    log_files(tmp_path)[1].unlink()
    channel = make(segment=2**16)
    with pytest.raises(Corrupt):
        rows_of(channel, 8)


def test_a_channel_without_its_stream_id_is_refused(make, tmp_path):
    make().close()
    stream = next(tmp_path.rglob("stream.json"))
    text = stream.read_text()
    stream.unlink()
    with pytest.raises(Corrupt, match="is missing beside the rows"):
        make()
    stream.write_text("{}")
    with pytest.raises(Corrupt, match="is damaged"):
        make()
    stream.write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(Halt, match="newer version"):
        make()


def test_the_last_segment_without_rows_still_knows_every_source(make):
    channel, feed = make(segment=2**16), Feed()
    channel.put(feed.batch(b"a" * 65_000), 0)
    arm("channel.roll_after=error@1-1")
    with pytest.raises(Retry):
        channel.put(feed.batch(b"b" * 65_000), 0)
    channel.close()
    assert make(segment=2**16).committed()[feed.partition].position == 10


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_compressed_rows_come_back_and_take_less(make, compression, tmp_path):
    channel, feed = make(compression=compression), Feed()
    channel.put(feed.batch(*[b"the same line again and again %d" % (i % 10) for i in range(5000)]), 0)
    size = log_files(tmp_path)[-1].stat().st_size
    assert size < 60_000 if compression != "none" else size > 150_000
    channel.close()
    again = make(compression="none")
    assert again.committed() == {feed.partition: feed.record()}
    assert len(rows_of(again, 5000)) == 5000


def test_many_small_puts_are_taken_together(make):
    channel, feed = make(), Feed()
    for i in range(50):
        channel.put(feed.batch(b"%d" % i), 0)
    batch = channel.take(0)
    assert bodies(batch) == [b"%d" % i for i in range(50)]
    assert batch.span.end == channel._log.leo


def test_what_the_sink_has_committed_no_longer_counts(make):
    channel, feed = make(capacity=50_000), Feed()
    for _ in range(5):
        assert channel.put(feed.batch(b"x" * 30_000), 0)
        assert not channel.put(feed.batch(b"y" * 30_000, span=1), 0)
        feed.position -= 1
        batch = channel.take(0)
        channel.release(batch.span.end)


def test_the_bound_is_the_same_after_a_restart(make):
    channel, feed = make(capacity=50_000), Feed()
    channel.put(feed.batch(b"x" * 30_000), 0)
    end = channel.take(0).span.end
    channel.close()
    again = make(capacity=50_000)
    assert not again.put(feed.batch(b"y" * 30_000), 0)
    again.seek(Record(end))
    feed.position -= 10
    assert again.put(feed.batch(b"y" * 30_000), 0)


def test_settings_say_what_is_wrong():
    with pytest.raises(ValidationError, match="segment"):
        FileChannelSettings(type="file", segment="1kB")
    with pytest.raises(ValidationError, match="compression"):
        FileChannelSettings(type="file", compression="snappy")
    assert FileChannelSettings.durable
