"""What the sink does with rows: where they land, when they are shown, and how much it holds."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailrace.component import ALL
from tailrace.errors import Corrupt, Rewind
from tailrace.event import Partition, Record
from tests.sinks.parquet.conftest import FILES, HOUR, NOON, TOPIC, batch


def test_rows_of_a_topic_land_with_their_origin(world):
    sink = world.sink()
    assert sink.acquire([TOPIC]) == {}
    sink.write(batch(TOPIC, 10, [b"a", b"b", None], end=15))
    sink.write(batch(TOPIC, 15, [b"c"], times=[NOON + HOUR], headers=[[("h", b"1")]]))
    assert world.files() == []
    assert sink.commit() == {TOPIC: 16}
    assert [path.relative_to(world.lake).as_posix()[:-18] for path in world.files()] == [
        f"weblogs/hour={hour}/weblogs-0-{10:020}-{16:020}-" for hour in ("12", "13")
    ]
    table = pq.read_table(world.files()[0], partitioning=None)
    assert table.to_pydict() | {"timestamp": None} == {
        "body": ["a", "b", None],
        "key": [None] * 3,
        "headers": [None] * 3,
        "timestamp": None,
        "topic": ["weblogs"] * 3,
        "partition": [0] * 3,
        "offset": [10, 11, 12],
    }
    assert (sink.totals.rows, sink.totals.files) == (4, 2)
    assert world.staged() == []
    assert world.sink().acquire([TOPIC]) == {TOPIC: Record(16, b"s")}


def test_files_of_one_agent_share_a_batch_and_its_number(world):
    sink = world.sink(path=f"{world.lake}/dt=%Y")
    assert sink.acquire(ALL) == {}
    assert sink.acquire(FILES) == {}
    sink.write(batch(FILES[0], 0, [b"a"], end=20, state=b"zero"))
    sink.write(batch(FILES[1], 0, [b"b"], end=7))
    assert sink.commit() == {FILES[0]: 20, FILES[1]: 7}
    sink.write(batch(FILES[1], 7, [b"c"]))
    assert sink.commit() == {FILES[1]: 8}
    assert [path.name[:-18] for path in world.files()] == [f"land.lake-{n:020}-" for n in range(2)]
    table = pq.read_table(world.files()[0], partitioning=None)
    assert table["file"].to_pylist() == ["/var/log/0.log", "/var/log/1.log"]
    assert table["position"].to_pylist() == [0, 0]
    again = world.sink(path=f"{world.lake}/dt=%Y")
    assert again.acquire(ALL) == {FILES[0]: Record(20, b"zero"), FILES[1]: Record(8, b"s")}
    assert world.sink(path=f"{world.lake}/dt=%Y", instance="j" * 32).acquire(ALL) == {}


def test_what_cannot_land_goes_to_the_dead_letters_of_the_same_batch(world):
    sink = world.sink()
    sink.acquire([TOPIC])
    sink.write(batch(TOPIC, 0, [b"ok", b"\xff\xfe", b"late", b"\xff"], times=[NOON, NOON, None, None]))
    assert sink.commit() == {TOPIC: 4}
    assert world.rows("weblogs") == ["ok"]
    (dead,) = world.files("_dead/weblogs")
    table = pq.read_table(dead, partitioning=None)
    assert table["body"].to_pylist() == [b"\xff\xfe", b"\xff", b"late"]
    assert [reason[:14] for reason in table["reason"].to_pylist()] == [
        "not valid UTF-",
        "not valid UTF-",
        "no timestamp t",
    ]
    assert (sink.totals.rows, sink.totals.dead_letters) == (1, 3)


def test_binary_bodies_keep_every_byte(world):
    sink = world.sink(body="binary")
    sink.acquire([TOPIC])
    sink.write(batch(TOPIC, 0, [b"\x00\xff", b""]))
    sink.commit()
    assert world.rows() == [b"", b"\x00\xff"]


def test_a_hostile_header_cannot_leave_the_root_nor_touch_staging(world):
    sink = world.sink(path=f"{world.lake}/%{{h}}")
    sink.acquire([TOPIC])
    values = [b"../../etc", b"_staging/land", b"/abs", b"\x00", b".", b"", b"a" * 5000, b"_dead"]
    sink.write(batch(TOPIC, 0, [b"x"] * len(values), headers=[[("h", value)] for value in values]))
    sink.commit()
    tops = {path.relative_to(world.lake).parts[0] for path in world.files()}
    assert len(tops) == len(values)
    assert not any(top.startswith(("_", ".")) for top in tops)
    assert len(world.rows()) == len(values)
    assert sorted(path.name for path in world.root.iterdir()) == ["lake", "state"]


def test_a_span_without_rows_moves_the_position_and_makes_no_file(world):
    sink = world.sink()
    sink.acquire([TOPIC])
    sink.write(batch(TOPIC, 0, [], end=100))
    assert sink.commit() == {TOPIC: 100}
    assert world.files() == []
    assert sink.commit() == {}


def test_a_new_state_at_the_same_position_is_kept(world):
    sink = world.sink()
    sink.acquire(FILES)
    sink.write(batch(FILES[0], 50, [], end=50, state=b"starts at the end"))
    assert sink.commit() == {FILES[0]: 50}
    sink.write(batch(FILES[0], 50, [], end=50, state=b"gone"))
    assert sink.commit() == {FILES[0]: 50}
    assert world.sink().acquire(ALL) == {FILES[0]: Record(50, b"gone")}


def test_rows_it_has_are_dropped_and_a_hole_is_refused(world):
    sink = world.sink()
    sink.acquire([TOPIC])
    sink.write(batch(TOPIC, 0, [b"0", b"1"]))
    sink.write(batch(TOPIC, 0, [b"0", b"1", b"2"]))
    sink.write(batch(TOPIC, 1, [b"1", b"2"]))
    with pytest.raises(Corrupt, match="begins at 9, but 3 comes next"):
        sink.write(batch(TOPIC, 9, [b"9"]))
    with pytest.raises(Corrupt, match="was not acquired"):
        sink.write(batch(Partition("topic", "abc", 1, "weblogs"), 0, [b"x"]))
    assert sink.commit() == {TOPIC: 3}
    assert world.rows() == ["0", "1", "2"]


def test_a_gap_is_a_range_of_its_own(world):
    sink = world.sink()
    sink.acquire([TOPIC])
    sink.write(batch(TOPIC, 0, [b"0"]))
    sink.write(batch(TOPIC, 1, [], end=90, gap=True))
    sink.write(batch(TOPIC, 90, [b"90"]))
    assert sink.commit() == {TOPIC: 91}
    with sink._opened.ledger.transaction("test") as connection:
        ranges = connection.exec_driver_sql('SELECT start, "end", kind, rows FROM batch_range ORDER BY start')
        assert ranges.fetchall() == [(0, 1, "DATA", 1), (1, 90, "GAP", 0), (90, 91, "DATA", 1)]


@pytest.mark.parametrize(
    ("roll", "seconds"), [({"interval": "5m", "idle": "1h"}, 300), ({"interval": "1h", "idle": "20s"}, 20)]
)
def test_files_are_shown_after_an_interval_or_when_no_row_comes(world, roll, seconds):
    sink = world.sink(roll=roll)
    sink.acquire([TOPIC])
    assert not sink.due()
    sink.write(batch(TOPIC, 0, [b"a"]))
    world.clock.advance(seconds - 1)
    assert not sink.due()
    world.clock.advance(1)
    assert sink.due()
    sink.commit()
    assert not sink.due()


def test_files_are_shown_when_they_have_grown(world):
    sink = world.sink(roll={"size": "64KiB"}, row_group="64KiB", compression="none")
    sink.acquire([TOPIC])
    at = 0
    while not sink.due():
        sink.write(batch(TOPIC, at, [b"%1000d" % (at + n) for n in range(10)]))
        at += 10
    sink.commit()
    assert 50_000 < world.files()[0].stat().st_size < 300_000


def test_open_files_are_bounded_and_all_parts_are_one_batch(world):
    sink = world.sink(max_open_files=2, row_group="64KiB", memory="1MiB", compression="none")
    sink.acquire([TOPIC])
    at = 0
    for _ in range(4):
        for hour in range(5):
            bodies = [b"%2000d" % (at + n) for n in range(100)]
            sink.write(batch(TOPIC, at, bodies, times=[NOON + hour * HOUR] * 100))
            at += 100
            parts = list(sink._files._parts)
            assert sum(part.is_open for part in parts) <= 2
            assert sum(part.pending for part in parts) <= 2**20 + 250_000
    assert sink.commit() == {TOPIC: 2000}
    assert len(world.files()) > 5
    assert [int(body) for body in world.rows()] == list(range(2000))
    assert world.staged() == []


def test_memory_is_bounded_by_writing_out_the_largest(world):
    sink = world.sink(memory="1MiB", row_group="512KiB")
    sink.acquire([TOPIC])
    before = pa.total_allocated_bytes()
    for at in range(0, 20_000, 100):
        sink.write(batch(TOPIC, at, [b"%1000d" % (at + n) for n in range(100)]))
        assert pa.total_allocated_bytes() - before < 4 * 2**20
    sink.commit()
    assert len(world.rows()) == 20_000


def test_what_is_revoked_is_dropped_and_comes_again(world):
    sink = world.sink()
    other = Partition("topic", "abc", 1, "weblogs")
    sink.acquire([TOPIC, other])
    sink.write(batch(TOPIC, 0, [b"lost"]))
    sink.write(batch(other, 0, [b"kept"]))
    sink.revoke([TOPIC], lost=True)
    assert sink.commit() == {other: 1}
    with pytest.raises(Corrupt):
        sink.write(batch(TOPIC, 1, [b"x"]))
    assert sink.acquire([TOPIC]) == {}
    sink.write(batch(TOPIC, 0, [b"again"]))
    sink.commit()
    assert world.rows() == ["again", "kept"]


def test_a_file_that_is_revoked_in_the_middle_rewinds_its_batch(world):
    sink = world.sink()
    sink.acquire(FILES)
    sink.write(batch(FILES[0], 0, [b"a"]))
    sink.revoke([FILES[2]], lost=False)
    with pytest.raises(Rewind):
        sink.revoke([FILES[0]], lost=False)
    assert world.staged() == []
    assert sink.acquire(FILES) == {}


def test_an_abort_leaves_nothing_behind(world):
    sink = world.sink(row_group="64KiB")
    sink.acquire([TOPIC])
    for at in range(0, 500, 100):
        sink.write(batch(TOPIC, at, [b"x" * 1000] * 100))
    assert world.staged() != []
    sink.abort()
    assert world.staged() == []
    assert sink.acquire([TOPIC]) == {}
    assert sink.commit() == {}
