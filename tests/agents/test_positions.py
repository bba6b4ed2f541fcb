"""Origins of sinks without a store, in the agent's own database."""

from pathlib import Path

import pytest

from tailrace.agents.positions import KeptOrigins
from tailrace.component import ALL
from tailrace.errors import Retry
from tailrace.event import Partition, Record

FILE = Partition("file", "f1", name="/var/log/a")
TOPIC = Partition("topic", "t1", 3, "logs")


class Group:
    """A place in a group that has committed `offsets`."""

    group, generation, member_id, instance_id = "g", 1, "m", None

    def __init__(self, offsets: dict[Partition, tuple[int, str]]) -> None:
        self._offsets = offsets

    def heartbeat(self) -> None:
        pass

    def offsets(self, partitions: object) -> dict[Partition, tuple[int, str]]:
        return self._offsets


def test_what_is_stored_is_there_after_a_restart_with_names_and_states(tmp_path: Path) -> None:
    kept = KeptOrigins(tmp_path / "p.db", "s")
    kept.store({FILE: Record(10, b"x"), TOPIC: Record(7)})
    kept.store({FILE: Record(20, b"y")})
    kept.close()
    again = KeptOrigins(tmp_path / "p.db", "s")
    assert again.records(ALL, None) == {FILE: Record(20, b"y"), TOPIC: Record(7)}
    assert {p.name for p in again.stored()} == {"/var/log/a", "logs"}
    assert again.records([FILE], None) == {FILE: Record(20, b"y")}


def test_sinks_do_not_see_each_other(tmp_path: Path) -> None:
    one, two = KeptOrigins(tmp_path / "p.db", "one"), KeptOrigins(tmp_path / "p.db", "two")
    one.store({FILE: Record(10)})
    two.store({FILE: Record(99)})
    assert KeptOrigins(tmp_path / "p.db", "one").stored() == {FILE: Record(10)}


def test_topics_of_a_group_are_where_the_group_has_committed(tmp_path: Path) -> None:
    kept = KeptOrigins(tmp_path / "p.db", "s")
    kept.store({FILE: Record(10), TOPIC: Record(7)})
    group = Group({TOPIC: (42, "")})
    assert kept.records([FILE, TOPIC], group) == {FILE: Record(10), TOPIC: Record(42)}
    assert kept.records([TOPIC], Group({})) == {}


def test_forgotten_partitions_are_new_again(tmp_path: Path) -> None:
    kept = KeptOrigins(tmp_path / "p.db", "s")
    kept.store({FILE: Record(10), TOPIC: Record(7)})
    kept.forget([FILE])
    assert kept.stored() == KeptOrigins(tmp_path / "p.db", "s").stored() == {TOPIC: Record(7)}


def test_a_disk_that_is_full_is_waited_for(tmp_path: Path) -> None:
    kept = KeptOrigins(tmp_path / "p.db", "s")
    kept.store({FILE: Record(10)})
    pages = kept._db.execute("PRAGMA page_count").fetchone()[0]
    kept._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Retry, match=r"p\.db: database or disk is full"):
        kept.store({FILE: Record(20, b"x" * 1_000_000)})
    kept._db.execute("PRAGMA max_page_count = 1000000")
    kept.store({FILE: Record(20)})
    assert KeptOrigins(tmp_path / "p.db", "s").stored() == {FILE: Record(20)}
