"""`ledger show` and `ledger verify`, against a real landing that somebody has tampered with."""

import pytest

from tailrace.event import Partition
from tailrace.sinks.ledger.looking import NoLedger
from tailrace.sinks.ledger.show import show
from tailrace.sinks.ledger.verify import verify
from tests.sinks.parquet.conftest import TOPIC, World, batch


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    sink = world.sink()
    other = Partition("topic", "abc", 1, "weblogs")
    sink.acquire([TOPIC, other])
    sink.write(batch(TOPIC, 0, [b"a", b"b", b"\xff"]))
    sink.write(batch(other, 5, [b"c"]))
    sink.commit()
    sink.write(batch(TOPIC, 3, [], end=10))
    sink.commit()
    sink.close()
    return world


def checked(world):
    return verify(world.settings(), world.context())


def test_a_landing_that_nobody_touched_has_no_fault(world):
    found = checked(world)
    assert (found.files, found.rows, found.dead_letters) == (3, 3, 1)
    assert found.faults == found.notes == []


def test_the_ledger_is_shown_to_people(world):
    text = "\n".join(show(world.settings(), world.context()))
    assert "weblogs-0 (abc): next 10, 2 rows, 1 dead letters" in text
    assert "weblogs-1 (abc): next 6, 1 rows" in text
    assert "2 PUBLISHED" in text


def tamper_remove(path):
    path.unlink()


def tamper_flip(path):
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)


def tamper_cut(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("tamper", "says"), [(tamper_remove, "is gone"), (tamper_flip, "crc32c"), (tamper_cut, "bytes")]
)
def test_a_file_that_changed_is_found(world, tamper, says):
    path = world.files()[0]
    tamper(path)
    (fault,) = checked(world).faults
    assert str(path) in fault
    assert says in fault


def test_a_file_that_the_ledger_does_not_know_is_found(world):
    stranger = world.files()[0].with_name("stranger.parquet")
    stranger.write_bytes(world.files()[0].read_bytes())
    (fault,) = checked(world).faults
    assert fault == f"{stranger}: the ledger does not know it"


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        (
            'UPDATE batch_range SET "end" = 2 WHERE start = 0',
            "a range ends at 2, and the next one begins at 3",
        ),
        ("UPDATE partition_state SET next = 11 WHERE number = 0", "the next position is 11"),
        ("UPDATE batch_range SET rows = 5 WHERE start = 5", "5 rows and 0 dead letters by its ranges"),
        ("UPDATE meta SET value = 'x' WHERE name = 'uuid'", "is of batch"),
    ],
)
def test_a_ledger_that_changed_is_found(world, sql, says):
    sink = world.sink()
    with sink._opened.ledger.transaction("test") as connection:
        connection.exec_driver_sql(sql)
    sink.close()
    assert any(says in fault for fault in checked(world).faults)


def test_no_ledger_yet_is_said_and_none_is_made(tmp_path):
    world = World(tmp_path)
    for look in (show, verify):
        with pytest.raises(NoLedger, match="no ledger yet"):
            look(world.settings(), world.context())
    assert not (tmp_path / "state" / "ledger.db").exists()
