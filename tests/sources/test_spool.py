"""Finished files, each read once and put away once it is committed; bad ones aside, and the source goes on."""

import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailrace import failpoint
from tailrace.clock import ManualClock
from tailrace.errors import Corrupt
from tailrace.event import Record
from tailrace.sources.spool.settings import SpoolSettings
from tailrace.sources.spool.source import SpoolSource
from tests.support.source_driver import Driver, Store

Start = Callable[..., Driver]


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    path = tmp_path / "spool"
    path.mkdir()
    return path


@pytest.fixture
def start(spool: Path, tmp_path: Path, store: Store, clock: ManualClock) -> Iterator[Start]:
    drivers: list[Driver] = []

    def start(*, once: bool = False, **settings: object) -> Driver:
        options = {"directory": str(spool), "settle": 0, "channels": ["c"], **settings}
        parsed = SpoolSettings(type="spool", **options)  # type: ignore[arg-type]
        driver = Driver(lambda context: SpoolSource(parsed, context), store, tmp_path, clock, once=once)
        drivers.append(driver)
        return driver

    yield start
    failpoint.arm("")
    for driver in drivers:
        driver.kill()


def drop(path: Path, text: str | bytes, age: int = 100) -> Path:
    """A file that was finished `age` seconds before the test's clock began."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
    return path


def names(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def failures(driver: Driver) -> dict[str, str]:
    return {Path(problem.place).name: problem.text for problem in driver.source.problems() if problem.failed}


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({}, ["a.log.COMPLETED", "b.gz.COMPLETED"]),
        ({"suffix": ".done"}, ["a.log.done", "b.gz.done"]),
        ({"when_done": "move"}, ["done/a.log", "done/b.gz"]),
        ({"when_done": "delete"}, []),
    ],
)
def test_a_file_is_put_away_once_it_is_committed(
    spool: Path, start: Start, settings: dict[str, str], left: list[str]
) -> None:
    drop(spool / "a.log", "one\ntwo")
    drop(spool / "b.gz", gzip.compress(b"three\nfour\n"))
    source = start(**settings)
    source.read()
    assert names(spool) == ["a.log", "b.gz"]
    source.commit()
    assert sorted(source.store.bodies) == [b"four", b"one", b"three", b"two"]
    assert names(spool) == left
    source.look()
    source.kill()
    assert len(start(**settings).bodies()) == 4


def test_a_file_without_rows_is_put_away_at_once(spool: Path, start: Start) -> None:
    drop(spool / "empty", "")
    start().read()
    assert names(spool) == ["empty.COMPLETED"]


@pytest.mark.parametrize(("order", "wanted"), [("oldest", b"bca"), ("youngest", b"acb"), ("name", b"abc")])
def test_files_come_in_the_order_asked_for(spool: Path, start: Start, order: str, wanted: bytes) -> None:
    for name, age in (("a", 1), ("b", 3), ("c", 2)):
        drop(spool / name, name, age)
    assert b"".join(start(order=order).bodies()) == wanted


def test_include_exclude_hidden_and_recursion(spool: Path, start: Start) -> None:
    for name in ("a.log", "b.txt", "c.tmp.log", ".hidden.log", "sub/d.log", "sub/deep/e.log", "failed/f.log"):
        drop(spool / name, name)
    flat = start(include=["*.log"], exclude=["*.tmp.*"])
    assert flat.bodies() == [b"a.log"]
    flat.kill()
    deep = start(include=["*.log"], exclude=["*.tmp.*"], recursive=True, when_done="move")
    assert sorted(deep.bodies()) == [b"a.log", b"sub/d.log", b"sub/deep/e.log"]
    assert {"done/sub/d.log", "done/sub/deep/e.log", "failed/f.log"} <= set(names(spool))


def test_symbolic_links_are_never_followed(spool: Path, tmp_path: Path, start: Start) -> None:
    drop(tmp_path / "outside/secret.log", "secret")
    (spool / "link.log").symlink_to(tmp_path / "outside/secret.log")
    (spool / "directory").symlink_to(tmp_path / "outside")
    drop(spool / "a.log", "one")
    source = start(recursive=True)
    assert source.bodies() == [b"one"]
    drop(spool / "sub/b.log", "two")
    source.clock.advance(1)
    source.step()  # it is assigned; now its directory becomes a link
    (spool / "sub").rename(tmp_path / "sub")
    (spool / "sub").symlink_to(tmp_path / "sub")
    source.read()
    assert source.bodies() == [b"one"]


def test_a_file_that_is_still_being_written_is_left_until_it_settles(spool: Path, start: Start) -> None:
    path = drop(spool / "a.log", "one\n", age=0)
    source = start(settle=10)
    assert source.bodies() == []
    source.clock.advance(9)
    with path.open("a") as out:
        out.write("two\n")
    os.utime(path, (1_700_000_009, 1_700_000_009))
    source.look(9)
    assert source.bodies() == []
    source.look(2)
    assert source.bodies() == [b"one", b"two"]


def test_two_names_of_one_file_are_read_once(spool: Path, start: Start) -> None:
    drop(spool / "a.log", "one\n")
    os.link(spool / "a.log", spool / "b.log")
    assert start().bodies() == [b"one"]


# Bad files.


def test_a_file_that_changes_while_it_is_read_fails_and_the_source_goes_on(spool: Path, start: Start) -> None:
    path = drop(spool / "a.log", "x" * 99 + "\n" + ("x" * 99 + "\n") * 60_000, age=100)
    drop(spool / "b.log", "fine\n", age=50)
    source = start()
    source.step()
    source.step()
    with path.open("a") as out:
        out.write("more\n")
    source.read()
    assert source.bodies()[-1] == b"fine"
    assert names(spool) == ["b.log.COMPLETED", "failed/a.log"]
    assert "changed while it was read" in failures(source)["a.log"]


def test_a_file_that_changes_after_it_was_read_fails(spool: Path, start: Start) -> None:
    path = drop(spool / "a.log", "one\n")
    source = start()
    source.read()
    path.write_text("other\n")
    source.commit()
    assert names(spool) == ["failed/a.log"]
    assert "changed after it had been read" in failures(source)["a.log"]


def test_a_truncated_archive_fails_after_its_whole_lines(spool: Path, start: Start) -> None:
    packed = gzip.compress(b"".join(b"%d\n" % i for i in range(10_000)))
    drop(spool / "a.gz", packed[: len(packed) // 2])
    broken = bytearray(packed)
    broken[-8:] = bytes(8)
    drop(spool / "b.gz", bytes(broken))
    source = start()
    bodies = source.bodies()
    assert bodies[0] == b"0"
    assert all(int(body) < 10_000 for body in bodies)
    assert names(spool) == ["failed/a.gz", "failed/b.gz"]
    assert "ends too early" in failures(source)["a.gz"]
    assert "not valid gzip" in failures(source)["b.gz"]


def test_a_name_that_was_read_before_fails_unread(spool: Path, start: Start) -> None:
    drop(spool / "a.log", "one\n")
    source = start()
    assert source.bodies() == [b"one"]
    for _ in range(2):
        drop(spool / "a.log", "again\n")
        source.look()
    assert source.bodies() == [b"one"]
    assert names(spool) == ["a.log.COMPLETED", "failed/a.log", "failed/a.log.1"]
    assert "read before" in failures(source)["a.log"]


def test_an_unreadable_file_is_a_problem_until_it_can_be_read(spool: Path, start: Start) -> None:
    drop(spool / "a.xz", b"\xfd7zXZ\x00" + bytes(10))
    drop(spool / "b.log", "one\n")
    source = start()
    assert source.bodies() == [b"one"]
    assert names(spool) == ["b.log.COMPLETED", "failed/a.xz"]


def test_a_directory_that_is_not_there_yet_is_a_problem(spool: Path, start: Start) -> None:
    spool.rmdir()
    source = start()
    source.read()
    assert "No such file" in source.problems()["spool"]
    spool.mkdir()
    drop(spool / "a.log", "one\n")
    source.look()
    assert source.bodies() == [b"one"]
    assert source.problems() == {}


def test_a_file_that_cannot_be_put_away_is_tried_again(spool: Path, start: Start) -> None:
    drop(spool / "a.log", "one\n")
    source = start()
    failpoint.arm("spool.linked=error@1-2")
    assert source.bodies() == [b"one"]
    assert "cannot be put away" in source.problems()["a.log"]
    source.look()
    source.look()
    assert names(spool) == ["a.log.COMPLETED"]
    assert source.problems() == {}


# Restarts.


def test_a_restart_goes_on_inside_a_file(spool: Path, start: Start) -> None:
    lines = [b"line %d" % i for i in range(100_000)]
    drop(spool / "a.log", b"\n".join(lines), age=2)
    drop(spool / "b.gz", gzip.compress(b"\n".join(lines)), age=1)
    for steps in (2, 4, 2, 2, 100):
        source = start()
        for _ in range(steps):
            source.step()
        source.commit()
        source.step()  # read, and lost
        source.kill()
    assert source.store.bodies == lines * 2
    assert names(spool) == ["a.log.COMPLETED", "b.gz.COMPLETED"]


def test_a_crash_between_commit_and_renaming_reads_nothing_twice(spool: Path, start: Start) -> None:
    drop(spool / "a.log", "one\n")
    source = start()
    source.read()
    failpoint.arm("spool.linked=error")
    source.commit()
    source.kill()
    failpoint.arm("")
    assert names(spool) == ["a.log", "a.log.COMPLETED"]
    source = start()
    assert source.bodies() == [b"one"]
    assert names(spool) == ["a.log.COMPLETED"]
    assert failures(source) == {}


def test_a_file_that_was_changed_while_we_were_down_fails(spool: Path, start: Start) -> None:
    path = drop(spool / "a.log", "one\n")
    source = start()
    source.read()
    failpoint.arm("spool.linked=error")
    source.commit()
    source.kill()
    failpoint.arm("")
    (spool / "a.log.COMPLETED").unlink()
    with path.open("a") as out:
        out.write("two\n")
    source = start()
    assert source.bodies() == [b"one"]
    assert names(spool) == ["failed/a.log"]


def test_another_file_with_the_same_inode_is_read(spool: Path, start: Start) -> None:
    path = drop(spool / "a.log", "one\n")
    source = start(when_done="delete")
    source.read()
    failpoint.arm("spool.deleted=error")
    source.commit()
    source.kill()
    failpoint.arm("")
    ((partition, record),) = source.store.records.items()
    drop(path, "two, and longer\n", age=5)
    state = (record.state or b"").replace(b'"inode":', b'"was":0,"inode":%d,"x":' % path.stat().st_ino)
    source.store.records[partition] = Record(record.position, state)
    assert start(when_done="delete").bodies() == [b"one", b"two, and longer"]


def test_a_rewind_reads_again_what_was_not_committed(spool: Path, start: Start) -> None:
    drop(spool / "a.log", "one\n")
    packed = gzip.compress(b"two\n" * 10)
    drop(spool / "b.gz", packed[:-8])
    source = start()
    source.read()
    source.rewind()
    assert source.bodies() == [b"one", *[b"two"] * 10]
    assert names(spool) == ["a.log.COMPLETED", "failed/b.gz"]


def test_a_state_that_cannot_be_ours_stops_the_source(spool: Path, start: Start) -> None:
    drop(spool / "a.log", "one\n")
    source = start()
    source.bodies()
    ((partition, record),) = source.store.records.items()
    source.store.records[partition] = Record(record.position + 1, record.state)
    with pytest.raises(Corrupt, match="positions reset"):
        start()


_PUT_AWAY = """
import sys
from tailrace.fs import LocalFileSystem
from tailrace.sources.spool.disposal import Disposal
disposal = Disposal(LocalFileSystem())
if sys.argv[2]:
    disposal.move(sys.argv[1], sys.argv[2])
else:
    disposal.delete(sys.argv[1])
"""


@pytest.mark.parametrize("point", ["spool.linked", "spool.unlinked", "spool.deleted"])
def test_killed_while_putting_away_the_next_start_does_the_rest(
    spool: Path, start: Start, point: str
) -> None:
    path = drop(spool / "a.log", "one\n")
    when_done = "delete" if point == "spool.deleted" else "rename"
    target = "" if when_done == "delete" else f"{path}.COMPLETED"
    source = start(when_done=when_done)
    source.read()
    source.source.committed = lambda positions, stamp: None  # type: ignore[method-assign]
    source.commit()
    source.kill()
    environment = os.environ | {"TAILRACE_FAILPOINTS": f"{point}=kill"}
    child = subprocess.run([sys.executable, "-c", _PUT_AWAY, str(path), target], env=environment)
    assert child.returncode == -signal.SIGKILL
    source = start(when_done=when_done)
    assert source.bodies() == [b"one"]
    source.look()
    assert names(spool) == ([] if when_done == "delete" else ["a.log.COMPLETED"])
    assert failures(source) == {}


# Once.


def test_once_reads_what_is_there_and_ends(spool: Path, start: Start) -> None:
    drop(spool / "a.log", "one\n")
    source = start(once=True)
    source.step()
    drop(spool / "later.log", "two\n")
    assert source.run_once() == [b"one"]
    assert names(spool) == ["a.log.COMPLETED", "later.log"]


def test_once_leaves_what_is_still_being_written(spool: Path, start: Start) -> None:
    path = drop(spool / "a.log", "one\n", age=0)
    drop(spool / "b.log", "two\n")
    source = start(once=True, settle=2)
    for second in range(60):
        os.utime(path, (1_700_000_000 + second, 1_700_000_000 + second))
        source.clock.advance(1)
        source.step()
        if source.finished:
            break
    assert source.finished
    assert source.bodies() == [b"two"]
    assert "left for the next run" in source.problems()["a.log"]


def test_headers_and_split_lines(spool: Path, start: Start) -> None:
    drop(spool / "a.log", "x" * 40)
    source = start(max_line=16, headers={"k": "v"}, basename_header=True, offset_header=True)
    source.bodies()
    assert [row.headers for row in source.store.rows] == [
        {"k": b"v", "basename": b"a.log", "offset": b"%d" % (16 * i), "tailrace.part": b"%d" % i}
        for i in range(3)
    ]
