"""Everything at once: appends, flushes, reads, retention, compaction, deletion and creation, from many threads."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from tailrace.broker.log.config import LogConfig
from tailrace.broker.log.errors import OffsetOutOfRange
from tailrace.broker.log.store import LogStore
from tests.support.batches import keyed, plain, read_all
from tests.support.ramdisk import ramdisk

SECONDS = 1.0


def all_at_once(*works: Callable[[], None]) -> None:
    """Runs each work again and again in a thread of its own; what one raises is raised here."""
    end, errors = time.monotonic() + SECONDS, []

    def repeat(work):
        try:
            while time.monotonic() < end and not errors:
                work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=repeat, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_one_log_in_many_threads(opened, clock):
    log = opened(segment_bytes=3000, index_interval_bytes=200, retention_bytes=30_000)

    def append():
        n = log.leo
        log.append(plain(*[b"%d" % (n + i) for i in range(n % 5 + 1)], timestamp=clock.now_ms()))

    def read():
        try:
            for record in read_all(log, start=max(log.log_start, log.leo - 300)):
                assert record.value == b"%d" % record.offset
            log.offset_for_time(clock.now_ms())
            log.bytes_from(log.log_start)
        except OffsetOutOfRange:
            pass

    def flush():
        leo = log.leo
        assert log.flush() >= leo
        assert log.recovery_point <= log.flushed

    all_at_once(append, read, read, flush, flush, lambda: log.retain(clock.now_ms()) and None)
    rows = read_all(log)
    assert [record.offset for record in rows] == list(range(log.log_start, log.leo))
    log.abandon()
    assert opened(segment_bytes=3000, index_interval_bytes=200).leo == log.leo


def test_a_store_in_many_threads():
    defaults = replace(LogConfig(), segment_bytes=2000, retention_ms=-1, min_cleanable_dirty_ratio=0.0)
    with ramdisk() as root:
        store = LogStore(str(root / "data"), defaults=defaults)
        store.open()
        store.create("stays", 1)
        store.create("compacted", 1, {"cleanup.policy": "compact"})
        counts = {"stays": 0, "compacted": 0}

        def append():
            for name in counts:
                n = counts[name]
                store.log(name, 0).append(keyed([(b"%d" % (n % 7), b"%d" % n * 10)]))
                counts[name] += 1

        def come_and_go():
            topic = store.create("fleeting", 2)
            for i in range(20):
                topic.partitions[i % 2].append(plain(b"%d" % i * 50))
            store.delete("fleeting")

        def read_compacted():
            log = store.log("compacted", 0)
            last = {}
            for record in read_all(log):
                last[record.key] = int(record.value[: len(record.value) // 10])
            newest = max(last.values(), default=0)
            assert all(value > newest - 8 for value in last.values())

        all_at_once(
            append, come_and_go, read_compacted, store.housekeeping, lambda: store.flush_dirty() and None
        )
        store.housekeeping()
        store.close()
        again = LogStore(str(root / "data"), defaults=defaults)
        again.open()
        assert set(again.topics()) == {"stays", "compacted"}
        assert not again.unclean
        assert [r.offset for r in read_all(again.log("stays", 0))] == list(range(counts["stays"]))
        assert again.log("compacted", 0).leo == counts["compacted"]
        again.close()
