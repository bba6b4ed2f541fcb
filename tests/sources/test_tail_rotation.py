"""Identity, not names: each line once through every kind of rotation. One test a rule."""

import gzip
import os
import shutil
from pathlib import Path

import pytest

from tests.sources.conftest import Start


def append(path: Path, *lines: str, end: str = "\n") -> None:
    with path.open("ab", buffering=0) as out:
        out.write("".join(line + end for line in lines).encode())


def copy_and_truncate(path: Path, copy: Path) -> None:
    shutil.copyfile(path, copy)
    os.truncate(path, 0)


def compress(path: Path) -> Path:
    target = path.with_name(path.name + ".gz")
    target.write_bytes(gzip.compress(path.read_bytes()))
    shutil.copystat(path, target)
    path.unlink()
    return target


def test_lines_are_read_as_they_come(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one", "two")
    tail = start()
    assert tail.bodies() == [b"one", b"two"]
    append(logs / "a.log", "three")
    tail.look()
    assert tail.bodies() == [b"one", b"two", b"three"]


def test_a_restart_goes_on_where_the_records_end(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one", "two")
    first = start()
    first.bodies()
    append(logs / "a.log", "three")
    first.look()  # read, but not committed
    first.kill()
    assert start().bodies() == [b"one", b"two", b"three"]


def test_a_rename_inside_the_pattern_is_the_same_file(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one")
    tail = start()
    tail.bodies()
    (logs / "a.log").rename(logs / "a.log.1")
    append(logs / "a.log.1", "two")
    append(logs / "a.log", "three")
    tail.look()
    assert sorted(tail.bodies()) == [b"one", b"three", b"two"]
    assert len({row.partition for row in tail.store.rows}) == 2


def test_a_rename_out_of_the_pattern_is_read_to_its_end(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one")
    tail = start("*.log")
    tail.bodies()
    (logs / "a.log").rename(logs / "elsewhere")
    append(logs / "elsewhere", "two")
    append(logs / "a.log", "three")
    tail.look()
    assert sorted(tail.bodies()) == [b"one", b"three", b"two"]


def test_a_rename_out_of_the_pattern_while_we_were_down_is_read_to_its_end(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one", "two")
    first = start("*.log")
    first.bodies()
    first.kill()
    append(logs / "a.log", "three")
    (logs / "a.log").rename(logs / "a.log.1")
    append(logs / "a.log", "four")
    assert sorted(start("*.log").bodies()) == [b"four", b"one", b"three", b"two"]


def test_a_rename_into_a_directory_below_while_we_were_down_is_read_to_its_end(
    logs: Path, start: Start
) -> None:
    append(logs / "a.log", "one")
    first = start("*.log")
    first.bodies()
    first.kill()
    append(logs / "a.log", "two")
    (logs / "old").mkdir()
    (logs / "a.log").rename(logs / "old/a.log-20261123")
    assert start("*.log").bodies() == [b"one", b"two"]


def test_generations_that_came_and_went_while_we_were_down_are_read(logs: Path, start: Start) -> None:
    append(logs / "a.log.7", "old, rotated before our time")
    os.utime(logs / "a.log.7", (1, 1))
    append(logs / "a.log", "one")
    first = start("*.log")
    first.bodies()
    first.kill()
    later = (logs / "a.log").stat().st_mtime_ns + 10**9
    (logs / "a.log").rename(logs / "a.log.2")
    append(logs / "a.log.1", "two")
    os.utime(logs / "a.log.1", ns=(later, later))
    append(logs / "a.log", "three")
    assert sorted(start("*.log").bodies()) == [b"one", b"three", b"two"]


@pytest.mark.parametrize("is_longer", [False, True])
def test_a_truncation_is_seen_by_the_fingerprint(logs: Path, start: Start, is_longer: bool) -> None:
    append(logs / "a.log", "one", "two")
    tail = start("*.log")
    tail.bodies()
    os.truncate(logs / "a.log", 0)
    append(logs / "a.log", *(["new line"] * 9 if is_longer else ["new"]))
    tail.look()
    assert tail.bodies()[2:] == ([b"new line"] * 9 if is_longer else [b"new"])


@pytest.mark.parametrize("patterns", ["*.log", "*.log*"])
@pytest.mark.parametrize("is_down", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_copytruncate_reads_the_rest_from_the_copy_and_the_copy_not_again(
    logs: Path, start: Start, patterns: str, is_down: bool, packed: bool
) -> None:
    append(logs / "a.log", "one", "two")
    tail = start(patterns)
    tail.bodies()
    if is_down:
        tail.kill()
    append(logs / "a.log", "three")
    copy_and_truncate(logs / "a.log", logs / "a.log.1")
    if packed:
        compress(logs / "a.log.1")
    append(logs / "a.log", "four, and longer than what was there before")
    if is_down:
        tail = start(patterns)
    tail.look()
    assert sorted(tail.bodies()) == [b"four, and longer than what was there before", b"one", b"three", b"two"]
    tail.kill()
    assert len(start(patterns).bodies()) == 4


def test_a_copy_is_not_read_before_the_original_is_cut(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one", "two")
    tail = start()
    tail.bodies()
    append(logs / "a.log", "three")
    shutil.copyfile(logs / "a.log", logs / "a.log.1")
    tail.look()
    tail.look(1000)
    assert tail.bodies() == [b"one", b"two", b"three"]
    os.truncate(logs / "a.log", 0)
    append(logs / "a.log", "four")
    tail.look()
    assert tail.bodies() == [b"one", b"two", b"three", b"four"]


def test_a_copy_that_misses_what_was_written_before_the_cut_is_not_read_again(
    logs: Path, start: Start
) -> None:
    append(logs / "a.log", *(f"line {i}" for i in range(10_000)))
    tail = start()
    tail.bodies()
    shutil.copyfile(logs / "a.log", logs / "a.log.1")
    append(logs / "a.log", "written between copy and cut")
    tail.clock.advance(1)
    tail.source._turns.ask(tail.source._catalog.attached()[0])  # type: ignore[attr-defined]
    tail.read()  # read before the copy was noticed
    os.truncate(logs / "a.log", 0)
    tail.look()
    tail.look(1000)
    assert len(tail.bodies()) == 10_001
    tail.kill()
    tail = start()
    tail.look(1000)
    assert len(tail.bodies()) == 10_001


def test_a_full_copy_stays_unread_when_the_original_is_deleted_while_we_are_down(
    logs: Path, start: Start
) -> None:
    append(logs / "a.log", "one", "two")
    tail = start()
    tail.bodies()
    shutil.copyfile(logs / "a.log", logs / "a.log.bak")
    append(logs / "a.log", "three")
    tail.look()
    tail.look(61)
    assert tail.bodies() == [b"one", b"two", b"three"]
    tail.look()
    tail.commit()
    tail.kill()
    (logs / "a.log").unlink()
    tail = start()
    tail.look(1000)
    assert tail.bodies() == [b"one", b"two", b"three"]
    append(logs / "a.log.bak", "four")
    tail.look()
    assert tail.bodies() == [b"one", b"two", b"three", b"four"]


def test_a_gzipped_copy_of_a_renamed_file_goes_on_from_the_position(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one")
    first = start("*.log*")
    first.bodies()
    first.kill()
    append(logs / "a.log", "two")
    (logs / "a.log").rename(logs / "a.log.1")
    compress(logs / "a.log.1")
    append(logs / "a.log", "three")
    second = start("*.log*")
    assert sorted(second.bodies()) == [b"one", b"three", b"two"]


def test_a_gzip_that_is_still_being_written_is_held(logs: Path, start: Start) -> None:
    lines = [f"line {os.urandom(20).hex()}" for i in range(5000)]
    append(logs / "a.log", *lines[:4000])
    tail = start()
    tail.bodies()
    append(logs / "a.log", *lines[4000:])
    packed = gzip.compress((logs / "a.log").read_bytes())
    (logs / "a.log").unlink()
    for size in (10, 1000, 50_000, len(packed) - 4, len(packed)):
        (logs / "a.log.gz").write_bytes(packed[:size])
        tail.look()
    assert tail.bodies() == [line.encode() for line in lines]


def test_files_that_merely_begin_alike_are_several_files(logs: Path, start: Start) -> None:
    banner = "# " + "=" * 2000
    append(logs / "a.log", banner, "one")
    tail = start()
    tail.bodies()
    append(logs / "a.log.1", banner, "two")
    append(logs / "b.log", banner, "three")
    tail.look()
    (logs / "a.log").unlink()
    append(logs / "a.log", banner, "four")
    tail.look()
    bodies = tail.bodies()
    assert bodies.count(banner.encode()) == 4
    assert sorted(bodies)[4:] == [b"four", b"one", b"three", b"two"]


def test_deleted_and_made_again_with_the_same_inode_is_a_new_file(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one")
    tail = start()
    tail.bodies()
    tail.kill()  # so that nothing keeps the inode
    inode = (logs / "a.log").stat().st_ino
    for _ in range(100):
        (logs / "a.log").unlink()
        append(logs / "a.log", "new, and longer than before")
        if (logs / "a.log").stat().st_ino == inode:
            break
    assert start().bodies() == [b"one", b"new, and longer than before"]


def test_a_deleted_file_that_is_open_is_read_to_its_end(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one")
    tail = start()
    tail.bodies()
    with (logs / "a.log").open("ab", buffering=0) as out:
        out.write(b"two\n")
        (logs / "a.log").unlink()
        out.write(b"three\n")
        tail.look()
        out.write(b"four\n")
        tail.look()
    assert tail.bodies() == [b"one", b"two", b"three", b"four"]


def test_a_device_number_that_changed_at_a_reboot_is_no_other_file(
    logs: Path, start: Start, store: object
) -> None:
    append(logs / "a.log", "one")
    tail = start()
    tail.bodies()
    tail.kill()
    for partition, record in tail.store.records.items():
        state = (record.state or b"").replace(b'"device":', b'"device":9')
        tail.store.records[partition] = type(record)(record.position, state)
    append(logs / "a.log", "two")
    assert start().bodies() == [b"one", b"two"]


def test_a_rotated_copy_shorter_than_the_position_is_held_until_it_grows(logs: Path, start: Start) -> None:
    append(logs / "a.log", *(f"line {i}" for i in range(500)))
    tail = start()
    tail.bodies()
    append(logs / "a.log", "the rest")
    whole = (logs / "a.log").read_bytes()
    os.truncate(logs / "a.log", 0)
    for size in (100, 2000, len(whole) - 1, len(whole)):
        (logs / "a.log.1").write_bytes(whole[:size])
        tail.look()
    assert len(tail.bodies()) == 501


def test_names_of_two_hard_links_and_a_symbolic_link_are_one_file(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one")
    os.link(logs / "a.log", logs / "b.log")
    (logs / "c.log").symlink_to(logs / "a.log")
    tail = start()
    assert tail.bodies() == [b"one"]
    (logs / "a.log").unlink()
    append(logs / "b.log", "two")
    tail.look()
    assert tail.bodies() == [b"one", b"two"]


def test_a_rewind_reads_a_deleted_file_again(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one")
    tail = start()
    tail.bodies()
    append(logs / "a.log", "two")
    tail.look()
    (logs / "a.log").unlink()
    tail.look(100)
    tail.rewind()
    assert tail.bodies() == [b"one", b"two"]


def test_partitions_that_are_gone_are_given_back_when_they_are_committed(logs: Path, start: Start) -> None:
    append(logs / "a.log", "one")
    append(logs / "b.log", "two")
    tail = start()
    tail.bodies()
    (logs / "a.log").unlink()
    tail.look(100)
    tail.look(4000)
    assert len(tail.revoked) == 1
    assert len(tail.assigned) == 1
