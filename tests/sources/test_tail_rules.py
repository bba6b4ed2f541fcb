"""What the tail source does beside following rotation: half lines, order, limits, headers, bad files, `--once`."""

import errno
import gzip
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tailrace.clock import ManualClock, SystemClock
from tailrace.component import Context
from tailrace.errors import Corrupt
from tailrace.event import EventBatch, Record
from tailrace.sources.tail.settings import TailSettings
from tailrace.sources.tail.source import TailSource
from tests.sources.conftest import Start
from tests.support.source_driver import Driver, Store


def append(path: Path, text: str | bytes) -> None:
    with path.open("ab", buffering=0) as out:
        out.write(text.encode() if isinstance(text, str) else text)


# Half-written last lines.


def test_a_half_written_line_waits_for_its_end(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one\ntw")
    tail = start()
    tail.look(1000)
    assert tail.bodies() == [b"one"]
    append(logs / "a.log", "o\n")
    tail.look()
    assert tail.bodies() == [b"one", b"two"]


def test_the_half_written_last_line_of_a_rotated_file_is_sent_after_60_still_seconds(
    logs: Path, start: Start
) -> None:
    append(logs / "a.log", "one\ntw")
    tail = start()
    tail.bodies()
    (logs / "a.log").rename(logs / "a.log.1")
    tail.look(5)
    tail.look(50)
    assert tail.bodies() == [b"one"]
    append(logs / "a.log.1", "ooo")
    tail.look(5)
    tail.look(58)
    assert tail.bodies() == [b"one"]
    tail.look(5)
    assert tail.bodies() == [b"one", b"twooo"]


def test_a_rotated_name_alone_does_not_end_a_files_life(logs: Path, start: Start) -> None:
    append(logs / "a.log.1", "half")
    tail = start()
    tail.look()
    tail.look(1000)
    assert tail.bodies() == []
    append(logs / "a.log", "")
    tail.look()
    assert tail.bodies() == [b"half"]


def test_a_line_end_that_comes_after_all_makes_no_empty_row_and_more_text_is_a_part(
    logs: Path, start: Start
) -> None:
    append(logs / "a.log", "ha")
    append(logs / "b.log", "ha")
    tail = start()
    tail.bodies()
    for name in ("a.log", "b.log"):
        (logs / name).rename(logs / f"{name}.1")
    tail.look()
    tail.look(61)
    assert tail.bodies() == [b"ha", b"ha"]
    tail.kill()
    tail = start()
    append(logs / "a.log.1", "\nnext\n")
    append(logs / "b.log.1", "lf\nnext\n")
    tail.look()
    by_file: dict[str, list[tuple[bytes, bytes | None]]] = {"a.log": [], "b.log": []}
    tail.bodies()
    for row in tail.store.rows[2:]:
        by_file[Path(row.partition.name).name].append((row.body, row.headers.get("tailrace.part")))
    assert by_file == {"a.log": [(b"next", None)], "b.log": [(b"lf", b"1"), (b"next", None)]}


def test_the_last_line_of_a_finished_archive_is_sent_at_once(logs: Path, start: Start) -> None:
    (logs / "a.log.1.gz").write_bytes(gzip.compress(b"one\ntwo"))
    assert start().bodies() == [b"one", b"two"]


# Lines.


def test_a_line_without_end_is_cut_and_memory_is_bounded(logs: Path, start: Start) -> None:
    with (logs / "a.log").open("wb") as out:
        for _ in range(64):
            out.write(b"x" * 2**20)
        out.write(b"\nnext\n")
    tail = start(max_line="100kB")
    tail.read(5000)
    tail.commit()
    *parts, following = tail.store.rows
    assert following.body == b"next"
    assert {len(row.body) for row in parts[:-1]} == {100_000}
    assert sum(len(row.body) for row in parts) == 64 * 2**20
    assert [row.headers["tailrace.part"] for row in parts] == [b"%d" % i for i in range(len(parts))]
    assert following.headers == {}


def test_carriage_returns_empty_lines_and_nul_bytes(logs: Path, start: Start) -> None:
    append(logs / "a.log", b"one\r\n\r\n\n\x00\x00\n\xff\xfe\r\r\n")
    assert start().bodies() == [b"one", b"", b"", b"\x00\x00", b"\xff\xfe\r"]


# Order and fairness.


def test_a_busy_file_does_not_starve_the_others(logs: Path, start: Start) -> None:
    append(logs / "a-busy.log", "x" * 99 + "\n" * 1 + ("x" * 99 + "\n") * 100_000)
    append(logs / "b.log", "mine\n")
    tail = start(turn="1MiB")
    seen = 0
    while b"mine" not in [body for batch in tail.uncommitted for body in batch.rows["body"].to_pylist()]:
        assert tail.step()
        seen += 1
    assert sum(batch.num_rows for batch in tail.uncommitted) < 40_000


def test_oldest_first_reads_the_oldest_file_to_its_end(logs: Path, start: Start) -> None:
    for number, name in enumerate(["c.log", "a.log", "b.log"]):
        append(logs / name, f"{name}\n" * 3)
        os.utime(logs / name, (1000 + number, 1000 + number))
    tail = start(oldest_first=True)
    assert tail.bodies() == [b"c.log"] * 3 + [b"a.log"] * 3 + [b"b.log"] * 3


# Headers.


def test_headers_are_off_by_default_and_come_when_asked_for(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one\ntwo\n")
    tail = start()
    tail.bodies()
    assert [row.headers for row in tail.store.rows] == [{}, {}]
    tail.kill()
    tail.store.records.clear()
    tail.store.rows.clear()
    groups = [{"files": [str(logs / "a.*")], "headers": {"service": "web"}}]
    tail = start(
        "b.*", file_header=True, basename_header=True, offset_header=True, headers={"dc": "x"}, groups=groups
    )
    tail.bodies()
    assert tail.store.rows[1].headers == {
        "dc": b"x",
        "service": b"web",
        "file": os.fsencode(logs / "a.log"),
        "basename": b"a.log",
        "offset": b"4",
    }


# `start: end`


def test_start_at_the_end_skips_what_is_there_and_reads_what_appears_later(logs: Path, start: Start) -> None:
    append(logs / "a.log", "old\nold ha")
    append(logs / "empty.log", "")
    (logs / "z.log.gz").write_bytes(gzip.compress(b"old\n"))
    tail = start(start="end")
    assert tail.bodies() == []
    append(logs / "a.log", "lf\none\n")
    append(logs / "b.log", "two\n")
    append(logs / "empty.log", "three\n")
    tail.look()
    assert sorted(tail.bodies()) == [b"old half", b"one", b"three", b"two"]
    tail.kill()
    append(logs / "c.log", "four\n")
    assert b"four" in start(start="end").bodies()


def test_start_at_the_end_is_over_after_the_first_start_even_if_nothing_was_there(
    logs: Path, start: Start
) -> None:
    tail = start(start="end")
    assert tail.bodies() == []
    tail.kill()
    append(logs / "a.log", "one\n")
    assert start(start="end").bodies() == [b"one"]


def test_a_first_start_that_was_killed_half_way_is_still_the_first(logs: Path, start: Start) -> None:
    for name in ("a.log", "b.log", "c.log"):
        append(logs / name, "old\n")
    tail = start(start="end")
    tail.step()
    tail.step()
    tail.commit()
    tail.kill()
    assert len(tail.store.records) == 1
    tail = start(start="end")
    assert tail.bodies() == []
    for name in ("a.log", "b.log", "c.log"):
        append(logs / name, "new\n")
    tail.look()
    assert tail.bodies() == [b"new"] * 3


def test_a_rotation_right_after_a_start_at_the_end_reads_the_new_lines_only(logs: Path, start: Start) -> None:
    append(logs / "a.log", "old\n" * 1000)
    tail = start(start="end")
    tail.bodies()
    append(logs / "a.log", "new\n")
    (logs / "a.log.1").write_bytes((logs / "a.log").read_bytes())
    os.truncate(logs / "a.log", 0)
    tail.look()
    assert tail.bodies() == [b"new"]


# Files that cannot be read.


def test_an_unreadable_file_is_a_problem_and_is_read_as_soon_as_it_can_be(
    logs: Path, start: Start, tmp_path: Path
) -> None:
    append(logs / "a.log", "one\n")
    append(logs / "b.log", "two\n")
    (logs / "a.log").chmod(0)
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.getuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o055)
    with as_nobody():
        tail = start()
        assert tail.bodies() == [b"two"]
        assert "Permission denied" in tail.problems()["a.log"]
        assert not any(problem.failed for problem in tail.source.problems())
        literal = start("a.log", "missing.log")
        literal.bodies()
        assert {Path(problem.place).name: problem.failed for problem in literal.source.problems()} == {
            "a.log": True,
            "missing.log": True,
        }
        literal.kill()
    (logs / "a.log").chmod(0o644)
    tail.look()
    assert tail.bodies() == [b"two", b"one"]
    assert tail.problems() == {}


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything; the tests may run as root."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_too_many_open_files_is_a_problem_and_the_others_go_on(logs: Path, start: Start) -> None:
    for number in range(20):
        append(logs / f"{number}.log", f"{number}\n")
    tail = start()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 2, hard))
    taken = []
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        tail.read()
        assert os.strerror(errno.EMFILE) in tail.problems()["logs"]
        for fd in taken[-3:]:
            os.close(fd)
        tail.look()
        assert len(tail.uncommitted) == 20
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken[:-3]:
            os.close(fd)
    assert len(tail.bodies()) == 20


def test_directories_that_appear_later_are_found(logs: Path, start: Start) -> None:
    tail = start("deep/**/*.log")
    assert tail.bodies() == []
    assert "no file matches" in tail.problems()["*.log"]
    (logs / "deep/er").mkdir(parents=True)
    append(logs / "deep/er/a.log", "one\n")
    tail.look()
    assert tail.bodies() == [b"one"]
    assert tail.problems() == {}


def test_what_is_no_regular_file_is_never_opened(logs: Path, start: Start) -> None:
    os.mkfifo(logs / "fifo.log")
    (logs / "loop.log").symlink_to(logs / "loop.log")
    (logs / "null.log").symlink_to("/dev/null")
    append(logs / "a.log", "one\n")
    assert start().bodies() == [b"one"]


def test_a_file_that_becomes_a_fifo_between_two_looks_does_not_hang(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one\n")
    tail = start(open_files=1)
    tail.bodies()
    (logs / "a.log").unlink()
    os.mkfifo(logs / "a.log")
    tail.look()
    assert tail.bodies() == [b"one"]


def test_archives_of_other_kinds_and_broken_ones_are_problems(logs: Path, start: Start) -> None:
    (logs / "a.log.xz").write_bytes(b"\xfd7zXZ\x00" + bytes(100))
    packed = bytearray(gzip.compress(b"".join(b"%d\n" % i for i in range(100_000))))
    packed[100_000:100_010] = bytes(10)
    (logs / "b.log.gz").write_bytes(packed)
    append(logs / "c.log", "one\n")
    tail = start()
    bodies = tail.bodies()
    assert b"one" in bodies
    assert len(bodies) > 10_000
    assert "xz archives are not read" in tail.problems()["a.log.xz"]
    assert "not valid gzip" in tail.problems()["b.log.gz"]


def test_a_state_that_cannot_be_ours_stops_the_source(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one\n")
    tail = start()
    tail.bodies()
    tail.kill()
    ((partition, record),) = tail.store.records.items()
    tail.store.records[partition] = Record(record.position + 1, record.state)
    with pytest.raises(Corrupt, match="positions reset"):
        start()
    tail.store.records[partition] = Record(4, b"not ours at all")
    assert start().bodies() == [b"one", b"one"]


# Many files.


def test_ten_thousand_mostly_idle_files(logs: Path, start: Start) -> None:
    for number in range(10_000):
        (logs / f"{number}.log").write_bytes(b"%d\n" % number)
    before = len(os.listdir("/proc/self/fd"))
    tail = start(open_files=50)
    tail.read(30_000)
    tail.commit()
    assert len(tail.store.rows) == 10_000
    assert len(os.listdir("/proc/self/fd")) - before < 100
    tail.kill()
    tail = start(open_files=50)
    append(logs / "777.log", "more\n")
    assert tail.bodies()[10_000:] == [b"more"]
    append(logs / "4711.log", "more\n")
    tail.look()
    assert len(tail.bodies()) == 10_002


def test_a_closed_file_is_checked_when_it_is_opened_again(logs: Path, start: Start) -> None:
    names = [logs / f"{number}.log" for number in range(8)]
    for name in names:
        append(name, f"{name} old\n")
    tail = start(open_files=2)
    tail.bodies()
    for name in names:
        inode = name.stat().st_ino
        name.unlink()
        append(name, f"{name} new and longer\n")
        del inode
    tail.look()
    assert len(tail.bodies()) == 16


def test_a_deleted_file_that_is_not_read_to_its_end_stays_open(logs: Path, start: Start) -> None:
    lines = [b"%d" % i for i in range(300_000)]
    append(logs / "a.log", b"\n".join(lines) + b"\n")
    tail = start(open_files=1, turn=4096)
    tail.step()
    tail.step()
    (logs / "a.log").unlink()
    for number in range(5):
        append(logs / f"{number}.log", "other\n")
    tail.look()
    assert tail.bodies().count(b"other") == 5
    assert [body for body in tail.store.bodies if body != b"other"] == lines


def test_the_same_inode_on_another_device_is_another_file(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one\n")
    tail = start()
    tail.bodies()
    tail.kill()
    ((partition, record),) = tail.store.records.items()
    state = (record.state or b"").replace(b'"device":', b'"device":9').replace(b"a.log", b"b.log")
    tail.store.records[partition] = Record(record.position, state)
    assert start().bodies() == [b"one", b"one"]


def test_a_name_that_is_no_utf_8_survives_a_restart(logs: Path, start: Start) -> None:
    path = Path(os.fsdecode(os.fsencode(logs) + b"/\xff.log"))
    append(path, "one\n")
    tail = start(file_header=True)
    tail.bodies()
    assert tail.store.rows[0].headers["file"].endswith(b"/\xff.log")
    tail.kill()
    append(path, "two\n")
    assert start().bodies() == [b"one", b"two"]


def test_equal_files_whose_names_share_a_beginning_are_all_read(logs: Path, start: Start) -> None:
    append(logs / "x.log1", "same\n")
    tail = start()
    tail.bodies()
    append(logs / "x.log10", "same\n")
    append(logs / "y.log", "same\n")
    tail.look()
    assert tail.bodies() == [b"same"] * 3


# Several sinks, rewinds.


def test_a_sink_that_has_nothing_yet_gets_everything(
    logs: Path, tmp_path: Path, start: Start, clock: ManualClock
) -> None:
    append(logs / "a.log", "one\ntwo\n")
    tail = start()
    tail.bodies()
    tail.kill()
    settings = TailSettings(type="tail", channels=["c"], watch=False, files=[str(logs / "*.log*")])
    source = TailSource(settings, Context("p", "a", "files", "0" * 32, tmp_path, clock=clock))
    source.open([tail.store.records, {}])
    assigned = source.read(0)
    assert assigned.partitions == tuple(tail.store.records)  # type: ignore[union-attr]
    source.seek(assigned.partitions[0], None)  # type: ignore[union-attr]
    batch = source.read(0)
    assert isinstance(batch, EventBatch)
    assert batch.rows["body"].to_pylist() == [b"one", b"two"]
    source.close()


def test_a_sink_that_joins_after_a_start_at_the_end_begins_there_too(
    logs: Path, tmp_path: Path, start: Start, clock: ManualClock
) -> None:
    append(logs / "a.log", "old\n")
    tail = start(start="end")
    tail.bodies()
    append(logs / "a.log", "new\n")
    tail.look()
    tail.commit()
    tail.kill()
    settings = TailSettings(
        type="tail", channels=["c"], watch=False, files=[str(logs / "*.log*")], start="end"
    )
    source = TailSource(settings, Context("p", "a", "files", "0" * 32, tmp_path, clock=clock))
    source.open([tail.store.records, {}])
    source.read(0)
    partition = next(partition for partition in tail.store.records if partition.name.endswith("a.log"))
    source.seek(partition, None)
    skipped = source.read(0)
    batch = source.read(0)
    assert isinstance(skipped, EventBatch)
    assert isinstance(batch, EventBatch)
    assert (skipped.num_rows, skipped.span.start, skipped.span.end) == (0, 0, 4)
    assert batch.rows["body"].to_pylist() == [b"new"]
    source.close()


def test_a_rewind_before_the_first_commit_reads_from_the_start(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one\n")
    tail = start()
    tail.read()
    tail.rewind()
    assert tail.bodies() == [b"one"]


def test_an_archive_can_be_rewound(logs: Path, start: Start) -> None:
    lines = [b"%d" % i for i in range(200_000)]
    (logs / "a.log.gz").write_bytes(gzip.compress(b"\n".join(lines)))
    tail = start()
    for _ in range(2):
        tail.step()
    tail.commit()
    tail.read()
    tail.rewind()
    assert tail.bodies() == lines


# Once.


def test_once_reads_what_is_there_and_ends(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one\ntwo\n")
    tail = start(once=True)
    tail.step()
    append(logs / "a.log", "later\n")
    append(logs / "b.log", "later\n")
    assert tail.run_once()[:2] == [b"one", b"two"]
    assert tail.source.problems() == ()
    tail.kill()
    assert sorted(start(once=True).run_once()) == [b"later", b"later", b"one", b"two"]


def test_once_with_nothing_to_read_ends_with_a_warning(start: Start) -> None:
    tail = start(once=True)
    assert tail.run_once() == []
    assert "no file matches" in next(iter(tail.problems().values()))


def test_once_sends_the_half_line_of_a_file_that_is_still_for_5_seconds(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one\ntw")
    os.utime(logs / "a.log", (1, 1))
    append(logs / "b.log", "half")
    tail = start(once=True)
    began = tail.clock.monotonic()
    assert sorted(tail.run_once()) == [b"half", b"one", b"tw"]
    assert 5 <= tail.clock.monotonic() - began < 9


def test_once_leaves_the_half_line_of_a_file_that_is_being_written(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one\nha")
    tail = start(once=True)
    tail.read()
    for _ in range(30):
        append(logs / "a.log", ".")
        tail.clock.advance(1)
        if not tail.step() and tail.finished:
            break
    assert tail.finished
    assert tail.bodies() == [b"one"]
    assert "left for the next run" in tail.problems()["a.log"]


def test_once_does_not_run_after_a_writer_for_ever(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one\n")
    tail = start(once=True)
    for _ in range(100):
        append(logs / "a.log", "more\n")
        tail.step()
        if tail.finished:
            break
    assert tail.finished


# Waking.


def test_events_wake_the_source_long_before_the_next_look(logs: Path, tmp_path: Path) -> None:
    settings = TailSettings(type="tail", channels=["c"], files=[str(logs / "*.log")], rescan=3600)
    append(logs / "a.log", "one\n")
    tail = Driver(lambda context: TailSource(settings, context), Store(), tmp_path, ManualClock())
    tail.source.close()
    context = Context("p", "a", "files", "0" * 32, tmp_path, clock=SystemClock())
    tail.source = TailSource(settings, context)
    tail.source.open([{}])
    tail.read()
    writer = threading.Timer(
        0.05, lambda: (append(logs / "a.log", "two\n"), append(logs / "new.log", "three\n"))
    )
    writer.start()
    while sum(batch.num_rows for batch in tail.uncommitted) < 3:
        tail.step(timeout=60)  # the test's own time-out is the deadline
    writer.join()
    assert sorted(tail.bodies()) == [b"one", b"three", b"two"]
    tail.kill()
