"""Disks that are full, ledgers that are away, files and topics that somebody changed."""

import os
import shutil
import sqlite3

import pytest

from tailrace import failpoint
from tailrace.errors import Fenced, Halt, Retry, Rewind
from tailrace.event import Partition, Record
from tests.sinks.parquet.conftest import FILES, TOPIC, batch


class Group:
    """A consumer group as the sink sees it."""

    group, generation, member_id, instance_id = "land", 1, "m", None

    def __init__(self, offset=None, metadata="", fenced=False):
        self._committed = (offset, metadata)
        self._fenced = fenced

    def heartbeat(self):
        if self._fenced:
            raise Fenced("not a member")

    def offsets(self, partitions):
        return {one: self._committed for one in partitions if self._committed[0] is not None}


def landed(world, count=3, **changes):
    """A sink that has landed `count` rows of the topic."""
    sink = world.sink(**changes)
    sink.acquire([TOPIC])
    sink.write(batch(TOPIC, 0, [b"%d" % n for n in range(count)]))
    sink.commit()
    return sink


def test_too_little_room_is_waited_for_and_told(world):
    sink = world.sink(min_free="900TiB", row_group="64KiB")
    sink.acquire([TOPIC])
    sink.write(batch(TOPIC, 0, [b"x" * 70_000]))
    with pytest.raises(Retry, match=r"land\.lake \(.*lake\): .*900\.0 TiB.* free"):
        sink.write(batch(TOPIC, 1, [b"y"]))
    with pytest.raises(Retry):
        sink.commit()
    assert "900.0 TiB" in sink.problems()[0].text
    object.__setattr__(sink._settings, "min_free", 0)
    assert sink.commit() == {TOPIC: 1}
    sink.write(batch(TOPIC, 1, [b"y"]))
    assert sink.problems() == []
    assert sink.commit() == {TOPIC: 2}
    assert len(world.rows()) == 2


def test_a_disk_that_fills_up_in_the_middle_rewinds_and_frees_its_room(world):
    sink = world.sink(row_group="64KiB", compression="none")
    sink.acquire([TOPIC])
    for at in range(3):
        sink.write(batch(TOPIC, at, [b"x" * 70_000]))
    failpoint.arm("store.local.write=enospc")
    with pytest.raises(Rewind, match=r"No space left.* free"):
        sink.write(batch(TOPIC, 3, [b"y"]))
    assert world.staged() == []
    assert "No space left" in sink.problems()[0].text
    failpoint.arm("")
    assert sink.acquire([TOPIC]) == {}
    sink.write(batch(TOPIC, 0, [b"0", b"1", b"2"]))
    assert sink.commit() == {TOPIC: 3}
    assert sink.problems() == []
    assert world.rows() == ["0", "1", "2"]


def test_a_failed_fsync_is_never_tried_again_on_the_same_file(world):
    sink = world.sink()
    sink.acquire([TOPIC])
    sink.write(batch(TOPIC, 0, [b"a"]))
    failpoint.arm("store.local.before_fsync=error@1-1")
    with pytest.raises(Rewind, match="fsync"):
        sink.commit()
    assert world.staged() == []
    assert sink.acquire([TOPIC]) == {}


@pytest.mark.parametrize(
    "point",
    [
        "store.local.before_stage",
        "ledger.decide.before_update",
        "ledger.decide.before_commit",
        "store.local.before_link",
        "store.local.before_sync",
        "publish.after_unstage",
        "ledger.finalize.before_update",
    ],
)
def test_what_does_not_work_now_is_told_and_done_later(world, point):
    sink = world.sink()
    sink.acquire([TOPIC])
    sink.write(batch(TOPIC, 0, [b"a"]))
    failpoint.arm(f"{point}=error@1-3")
    for _ in range(3):
        with pytest.raises(Retry, match="failpoint"):
            sink.commit()
        assert sink.due()
        assert sink.problems()
    assert sink.commit() == {TOPIC: 1}
    assert world.rows() == ["a"]
    assert world.staged() == []
    assert sink.problems() == []


@pytest.mark.parametrize("point", ["ledger.decide.commit_reply", "ledger.decide.commit_request"])
def test_a_lost_commit_is_settled_within_the_call_or_rewound(world, point):
    sink = world.sink()
    sink.acquire([TOPIC])
    sink.write(batch(TOPIC, 0, [b"a"]))
    failpoint.arm(f"{point}=error@1-1")
    if point.endswith("reply"):
        assert sink.commit() == {TOPIC: 1}
        sink.write(batch(TOPIC, 1, [b"b"]))
    else:
        with pytest.raises(Rewind, match="COMMIT"):
            sink.commit()
        assert sink.acquire([TOPIC]) == {}
        sink.write(batch(TOPIC, 0, [b"a", b"b"]))
    sink.commit()
    assert world.rows() == ["a", "b"]
    assert world.staged() == []


def test_a_rival_fences_and_may_be_fenced_again(world):
    one, two = world.sink(), world.sink()
    one.acquire([TOPIC])
    one.write(batch(TOPIC, 0, [b"one"]))
    assert two.acquire([TOPIC]) == {}
    two.write(batch(TOPIC, 0, [b"two"]))
    two.commit()
    with pytest.raises(Fenced, match="weblogs-0"):
        one.commit()
    assert one.acquire([TOPIC]) == {TOPIC: Record(1, b"s")}
    assert world.rows() == ["two"]


def test_who_is_no_member_of_the_group_acquires_nothing(world):
    sink, rival = world.sink(), landed(world)
    with pytest.raises(Fenced):
        sink.acquire([TOPIC], Group(fenced=True))
    rival.write(batch(TOPIC, 3, [b"3"]))
    assert rival.commit() == {TOPIC: 4}


def test_a_topic_that_was_made_anew_stops_or_is_another_stream(world):
    landed(world).close()
    anew = Partition("topic", "other", 0, "weblogs")
    with pytest.raises(Halt, match=r"deleted and made again.*on_recreate: new_stream"):
        world.sink().acquire([anew])
    sink = world.sink(on_recreate="new_stream")
    assert sink.acquire([anew]) == {}
    sink.write(batch(anew, 0, [b"new"]))
    assert sink.commit() == {anew: 1}
    assert world.sink().acquire([anew]) == {anew: Record(1, b"s")}
    assert world.rows() == ["0", "1", "2", "new"]


def test_what_was_decided_of_a_topic_that_is_gone_is_published_all_the_same(world):
    sink = world.sink()
    sink.acquire([TOPIC])
    sink.write(batch(TOPIC, 0, [b"a"]))
    failpoint.arm("store.local.before_link=error")
    with pytest.raises(Retry):
        sink.commit()
    failpoint.arm("")
    assert world.files() == []
    world.sink()
    assert world.rows() == ["a"]
    assert world.staged() == []


@pytest.mark.parametrize(
    ("offset", "stamp", "says"),
    [
        (3, "e" * 32, "by ledger eeee"),
        (4, "own", "only up to 3"),
        (3, "own", None),
        (2, "own", None),
        (99, "", None),
    ],
)
def test_the_groups_offsets_tell_a_wrong_ledger_but_are_never_used(world, offset, stamp, says):
    first = landed(world)
    group = Group(offset, first.stamp if stamp == "own" else stamp)
    sink = world.sink()
    if says is None:
        assert sink.acquire([TOPIC], group) == {TOPIC: Record(3, b"s")}
    else:
        with pytest.raises(Halt, match=says):
            sink.acquire([TOPIC], group)


def test_an_empty_ledger_beside_a_group_that_has_landed_is_refused(world):
    with pytest.raises(Halt, match="only up to 0"):
        world.sink().acquire([TOPIC], Group(5))


def test_a_lost_ledger_is_noticed_by_the_files_it_left(world):
    landed(world).close()
    shutil.rmtree(world.root / "state")
    with pytest.raises(Halt, match="belong to ledger"):
        world.sink()


def test_an_unmounted_volume_is_noticed(world):
    landed(world).close()
    shutil.rmtree(world.lake)
    with pytest.raises(Halt, match="is the volume mounted"):
        world.sink()


def test_a_ledger_from_an_older_backup_is_noticed_by_its_epochs(world):
    landed(world).close()
    backup = (world.root / "state" / "ledger.db").read_bytes()
    for position in (3, 4):
        sink = world.sink()
        sink.acquire([TOPIC])
        sink.write(batch(TOPIC, position, [b"x"]))
        sink.commit()
        sink.close()
    (world.root / "state" / "ledger.db").write_bytes(backup)
    with pytest.raises(Halt, match="restored from an older copy"):
        world.sink().acquire([TOPIC])


def lose_a_decided_file(world):
    sink = world.sink()
    sink.acquire([TOPIC])
    sink.write(batch(TOPIC, 0, [b"a", b"b"]))
    failpoint.arm("store.local.before_link=error")
    with pytest.raises(Retry):
        sink.commit()
    failpoint.arm("")
    (staged,) = world.staged()
    return staged


def test_a_decided_file_that_somebody_removed_stops_the_sink_until_a_reset(world):
    lose_a_decided_file(world).unlink()
    sink = world.sink()
    assert "neither staged nor published" in sink.problems()[0].text
    with pytest.raises(Halt, match="tailrace positions reset"):
        sink.acquire([TOPIC])
    assert sink.stored() == {TOPIC: Record(2, b"s")}
    sink.forget([TOPIC])
    again = world.sink()
    assert again.acquire([TOPIC]) == {}
    again.write(batch(TOPIC, 0, [b"a", b"b"]))
    assert again.commit() == {TOPIC: 2}
    assert world.rows() == ["a", "b"]


def test_a_staged_file_with_other_bytes_is_never_shown(world):
    lose_a_decided_file(world).write_bytes(b"other")
    with pytest.raises(Halt, match="not with the bytes"):
        world.sink().acquire([TOPIC])
    assert world.files() == []


def test_a_foreign_file_in_the_way_is_not_overwritten(world):
    lose_a_decided_file(world)
    with sqlite3.connect(world.root / "state" / "ledger.db") as ledger:
        ((final,),) = ledger.execute("SELECT final FROM file").fetchall()
    os.makedirs(os.path.dirname(final), exist_ok=True)
    with open(final, "wb") as file:
        file.write(b"mine")
    with pytest.raises(Halt, match="not the file that the ledger has decided"):
        world.sink().acquire([TOPIC])
    with open(final, "rb") as file:
        assert file.read() == b"mine"


def test_a_directory_that_somebody_removes_under_it_is_made_again(world):
    sink = landed(world)
    shutil.rmtree(world.lake / "weblogs")
    shutil.rmtree(world.lake / "_staging")
    sink.write(batch(TOPIC, 3, [b"3"]))
    for _ in range(3):
        try:
            assert sink.commit() == {TOPIC: 4}
            break
        except Retry:
            continue
    assert world.rows() == ["3"]


def test_a_ledger_on_a_full_disk_is_told_and_waited_for(world):
    sink = world.sink()
    sink.acquire([TOPIC])
    sink.write(batch(TOPIC, 0, [b"a"], state=b"x" * 100_000))
    pragma(sink, "max_page_count=1")  # what is there stays, more does not fit
    for _ in range(2):
        with pytest.raises(Retry, match=r"ledger sqlite.*decide: database or disk is full; .* free"):
            sink.commit()
    assert world.files() == []
    pragma(sink, "max_page_count=100000")
    assert sink.commit() == {TOPIC: 1}
    assert world.rows() == ["a"]


def pragma(sink, text):
    """On the sink's own connection: the pool has one."""
    with sink._opened.ledger._engine.connect() as connection:
        connection.connection.dbapi_connection.execute(f"PRAGMA {text}").fetchall()


def test_staging_of_another_group_is_not_touched(world):
    sink = world.sink(row_group="64KiB")
    other = Partition("topic", "abc", 1, "weblogs")
    sink.acquire([TOPIC])
    for at in range(2):
        sink.write(batch(TOPIC, at, [b"x" * 70_000]))
    before = world.staged()
    rival = world.sink()
    rival.acquire([other, *FILES])
    assert world.staged() == before != []
    assert sink.commit() == {TOPIC: 2}
