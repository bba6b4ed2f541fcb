"""Group commit and the two ways to wait, on real logs."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tailrace.broker.api.flusher import Flusher
from tailrace.broker.api.headroom import Headroom
from tailrace.broker.api.waiting import Waiting
from tailrace.broker.log.log import PartitionLog
from tailrace.broker.log.store import LogStore
from tailrace.broker.wire.errors import KafkaError
from tailrace.clock import ManualClock
from tailrace.failpoint import arm
from tailrace.fs import LocalFileSystem
from tests.support.batches import plain


class CountingDisk(LocalFileSystem):
    def __init__(self) -> None:
        self.syncs = 0
        self.free = 1000

    def fsync(self, path_or_fd: str | int) -> None:
        self.syncs += 1
        super().fsync(path_or_fd)

    def free_bytes(self, path: str) -> int:
        return self.free


@pytest.fixture
def disk() -> CountingDisk:
    return CountingDisk()


@pytest.fixture
def log(tmp_path: Path, disk: CountingDisk):
    store = LogStore(str(tmp_path / "data"), fs=disk)
    store.open()
    yield store.create("t", 1, {}).partitions[0]
    arm("")
    store.close()


def test_everybody_who_waits_shares_a_few_fsyncs(log: PartitionLog, disk: CountingDisk) -> None:
    async def check() -> None:
        flusher = Flusher(3600, lambda _: None)

        async def one(number: int) -> None:
            end = log.append(plain(b"%d" % number)).last_offset + 1
            await flusher.synced(log, end)
            assert log.flushed >= end

        before = disk.syncs
        await asyncio.gather(*(one(n) for n in range(200)))
        assert log.flushed == 200
        assert disk.syncs - before <= 3
        await flusher.close()

    asyncio.run(check())


def test_what_nobody_waits_for_is_fsynced_after_the_interval(log: PartitionLog) -> None:
    async def check() -> None:
        told: asyncio.Event = asyncio.Event()
        flusher = Flusher(0.02, lambda _: told.set())
        log.append(plain(b"a"))
        flusher.dirty(log)
        assert log.flushed == 0
        await asyncio.wait_for(told.wait(), 20)
        assert log.flushed == 1
        await flusher.close()

    asyncio.run(check())


def test_a_failed_fsync_is_told_to_everybody_and_for_good(log: PartitionLog) -> None:
    async def check() -> None:
        flusher = Flusher(3600, lambda _: None)
        log.append(plain(b"a"))
        arm("log.flush_before_sync=error")
        waits = await asyncio.gather(*(flusher.synced(log, 1) for _ in range(3)), return_exceptions=True)
        arm("")
        assert {type(error) for error in waits} == {KafkaError}
        with pytest.raises(KafkaError, match="KAFKA_STORAGE_ERROR"):
            await flusher.synced(log, 1)
        await flusher.close()

    asyncio.run(check())


def test_one_waiter_that_is_cancelled_takes_nobody_with_it(log: PartitionLog) -> None:
    async def check() -> None:
        flusher = Flusher(3600, lambda _: None)
        log.append(plain(b"a"))
        first, second = (asyncio.create_task(flusher.synced(log, 1)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await second
        assert log.flushed == 1
        await flusher.close()

    asyncio.run(check())


def test_waiters_are_woken_by_their_own_log_and_leave_nothing_behind(log: PartitionLog) -> None:
    async def check() -> None:
        waiting = Waiting()
        waits = asyncio.create_task(waiting.wait([log], 20))
        gives_up = asyncio.create_task(waiting.wait([log], 0.01))
        assert not await gives_up
        waiting.wake(log)
        assert await waits
        assert waiting._waiting == {}
        stops = asyncio.create_task(waiting.wait([log], 20))
        await asyncio.sleep(0)
        waiting.close()
        assert not await stops
        assert not await waiting.wait([log], 20)

    asyncio.run(check())


def test_headroom_is_asked_for_seldom_and_counts_what_it_let_through(disk: CountingDisk) -> None:
    clock = ManualClock()
    headroom = Headroom(disk, clock, "/", min_free=400)
    assert headroom.admits(500)
    assert headroom.admits(100)
    assert not headroom.admits(1)
    clock.advance(0.1)
    disk.free = 2000
    assert headroom.admits(1000)
    disk.free = 0
    assert headroom.admits(100)
    clock.advance(1)
    assert not headroom.admits(1)


def test_a_full_disk_is_told_to_who_writes_and_to_the_log_once_a_minute(disk: CountingDisk) -> None:
    clock = ManualClock()
    headroom = Headroom(disk, clock, "/the/disk", min_free=2**20)
    with capture_logs() as logs:
        for _ in range(90):
            assert headroom.refusal() == "/the/disk: the disk is full: 1000 B free, `min_free: 1.0 MiB`"
            clock.advance(1)
    assert [(log["event"], log["path"]) for log in logs] == [("no room for rows", "/the/disk")] * 2
