"""What every ledger must do, whatever database keeps it."""

import contextlib
import threading

import pytest
from sqlalchemy import text

from tailrace import failpoint
from tailrace.errors import Fenced, Halt
from tailrace.event import Partition, Record
from tailrace.sinks.ledger.engine import parse_url
from tailrace.sinks.ledger.ledger import Ledger, LedgerDown
from tailrace.sinks.ledger.model import Advance, Answer, Decision, Group, LandedFile, Range, SinkId
from tailrace.sinks.ledger.origins import forget, stored

SINK = SinkId("p", "land.lake", "i" * 32)
T0 = Partition("topic", "abc", 0, "weblogs")
FILES = [Partition("file", f"{n:032x}", 0, f"/var/log/{n}") for n in range(3)]


@pytest.fixture(autouse=True)
def _disarm():
    yield
    failpoint.arm("")


def own(ledger, partition=T0):
    owned = ledger.acquire(SINK, [Group.of(partition)], "me")[Group.of(partition)]
    return owned, {held.partition: held for held in ledger.enroll(owned, [partition])}


def decision(owned, held, start, end, *, batch="b" * 32, rows=3, kind="DATA", final=None):
    files = (LandedFile("/s/1", final or f"/f/{batch}", rows, 10, "crc32c:0", start, end - 1, False),)
    expected = held.record.position if held.record is not None else None
    ranges = (Range(start, end, kind, rows),)
    advance = Advance(held.id, held.partition.name, expected, end, b"state", ranges)
    return Decision(batch, owned, (advance,), files if rows else ())


def test_what_is_decided_is_there_for_the_next_owner(connect):
    ledger = connect()
    owned, held = own(ledger)
    assert held[T0].record is None
    assert ledger.decide(decision(owned, held[T0], 5, 9), 1) is Answer.COMMITTED
    other = connect()
    owned, held = own(other)
    assert held[T0].record == Record(9, b"state")
    assert held[T0].furthest == 9
    assert owned.sequence == 1
    (undone,) = other.undone(SINK, [owned])
    assert [file.final for file in undone.files] == [f"/f/{'b' * 32}"]
    other.finalize(undone.batch, 2)
    other.finalize(undone.batch, 3)
    assert other.undone(SINK, [owned]) == []
    assert other.uuid == ledger.uuid


def test_an_older_epoch_decides_nothing(connect):
    zombie, owner = connect(), connect()
    owned, held = own(zombie)
    own(owner)
    assert zombie.decide(decision(owned, held[T0], 0, 9), 1) is Answer.REFUSED
    assert own(owner)[1][T0].record is None
    with pytest.raises(Fenced):
        zombie.enroll(owned, [T0])


def test_a_position_that_is_not_next_decides_nothing_at_all(connect):
    ledger = connect()
    owned, held = own(ledger)
    assert ledger.decide(decision(owned, held[T0], 0, 9), 1) is Answer.COMMITTED
    again = decision(owned, held[T0], 0, 9, batch="c" * 32)
    assert ledger.decide(again, 1) is Answer.REFUSED
    assert own(ledger)[0].sequence == 1


def test_a_decision_that_is_repeated_is_the_same_decision(connect):
    ledger, rival = connect(), connect()
    owned, held = own(ledger)
    made = decision(owned, held[T0], 0, 9)
    assert ledger.decide(made, 1) is Answer.COMMITTED
    assert ledger.decide(made, 2) is Answer.COMMITTED
    own(rival)
    assert ledger.decide(made, 3) is Answer.COMMITTED
    assert [undone.batch for undone in rival.undone(SINK)] == [made.batch]


def test_one_refused_partition_refuses_the_whole_batch(connect):
    ledger = connect()
    group = Group("file")
    owned = ledger.acquire(SINK, [group], "me")[group]
    first, second, _ = ledger.enroll(owned, FILES)
    parts = [decision(owned, first, 0, 4).advances[0], decision(owned, second, 0, 4).advances[0]]
    wrong = [parts[0], Advance(second.id, "x", 77, 80, None, ())]
    assert ledger.decide(Decision("d" * 32, owned, tuple(wrong), ()), 1) is Answer.REFUSED
    assert [one.record for one in ledger.held(owned)] == [None, None, None]
    assert ledger.decide(Decision("d" * 32, owned, tuple(parts), ()), 1) is Answer.COMMITTED
    assert [one.record and one.record.position for one in ledger.held(owned)] == [4, 4, None]


def test_a_state_can_change_where_the_position_does_not(connect):
    ledger = connect()
    owned, held = own(ledger)
    only_state = Advance(held[T0].id, T0.name, None, 5, b"new", ())
    assert ledger.decide(Decision("e" * 32, owned, (only_state,), ()), 1) is Answer.COMMITTED
    assert own(ledger)[1][T0].record == Record(5, b"new")


@pytest.mark.parametrize(
    ("point", "answer"), [("commit_reply", Answer.COMMITTED), ("commit_request", Answer.ABSENT)]
)
def test_a_lost_reply_is_settled_by_looking(connect, point, answer):
    ledger = connect()
    owned, held = own(ledger)
    failpoint.arm(f"ledger.decide.{point}=error@1-1")
    unsure = decision(owned, held[T0], 0, 9)
    assert ledger.decide(unsure, 1) is Answer.UNKNOWN
    found, bumped = ledger.resolve(unsure)
    assert found is answer
    assert bumped.epoch == owned.epoch + 1
    assert ledger.decide(decision(owned, held[T0], 0, 9, batch="f" * 32), 1) is Answer.REFUSED


def test_after_a_lost_reply_a_new_owner_is_not_disturbed(connect):
    ledger, owner = connect(), connect()
    owned, held = own(ledger)
    failpoint.arm("ledger.decide.commit_reply=error@1-1")
    unsure = decision(owned, held[T0], 0, 9)
    assert ledger.decide(unsure, 1) is Answer.UNKNOWN
    mine, _ = own(owner)
    assert ledger.resolve(unsure)[0] is Answer.OUSTED
    assert owner.epoch(mine) == mine.epoch


@pytest.mark.parametrize("point", ["before_update", "before_commit"])
def test_what_fails_before_commit_is_certainly_not_stored(connect, point):
    ledger = connect()
    owned, held = own(ledger)
    failpoint.arm(f"ledger.decide.{point}=error@1-1")
    with pytest.raises(OSError, match="failpoint"):
        ledger.decide(decision(owned, held[T0], 0, 9), 1)
    assert ledger.decide(decision(owned, held[T0], 0, 9), 1) is Answer.COMMITTED


def test_many_landers_at_once_decide_every_position_once(connect):
    ledgers = [connect() for _ in range(4)]
    done: list[tuple[int, int]] = []
    errors: list[Exception] = []

    def land(number: int, ledger: Ledger) -> None:
        try:
            for turn in range(6):
                try:
                    owned, held = own(ledger)
                except Fenced:
                    continue
                record = held[T0].record
                start = record.position if record is not None else 0
                made = decision(owned, held[T0], start, start + 1 + turn, batch=f"{number:016x}{turn:016x}")
                if ledger.decide(made, 1) is Answer.COMMITTED:
                    done.append((start, start + 1 + turn))
        except Exception as error:  # noqa: BLE001 - whatever a thread dies of fails the test
            errors.append(error)

    threads = [threading.Thread(target=land, args=each) for each in enumerate(ledgers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    done.sort()
    assert [start for start, _ in done] == [0, *(end for _, end in done)][: len(done)]


def test_landers_that_start_together_make_one_ledger(url):
    ledgers = [Ledger(url) for _ in range(4)]

    def start(ledger: Ledger) -> None:
        while not ledger.uuid:
            with contextlib.suppress(LedgerDown):
                ledger.open("p")

    threads = [threading.Thread(target=start, args=(ledger,)) for ledger in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({ledger.uuid for ledger in ledgers}) == 1
    for ledger in ledgers:
        ledger.close()


@pytest.mark.interop
def test_a_postgresql_that_crashes_keeps_what_it_answered_for(postgres):
    ledger = Ledger(parse_url(postgres.create_database("crash")))
    ledger.open("p")
    owned, held = own(ledger)
    assert ledger.decide(decision(owned, held[T0], 0, 9), 1) is Answer.COMMITTED
    postgres.stop(immediate=True)
    with pytest.raises(LedgerDown, match="crash"):
        ledger.undone(SINK, [owned])
    postgres.start()
    assert own(ledger)[1][T0].record == Record(9, b"state")
    ledger.close()


def test_a_ledger_of_another_pipeline_or_of_a_newer_version_is_refused(connect, url):
    ledger = connect()
    with pytest.raises(Halt, match="belongs to pipeline 'p'"):
        Ledger(url).open("q")
    with ledger.transaction("test") as connection:
        connection.execute(text("UPDATE meta SET value = '99' WHERE name = 'version'"))
    with pytest.raises(Halt, match="newer version"):
        Ledger(url).open("p")


def test_a_topic_made_anew_is_a_stranger_until_it_was_taken(connect):
    ledger = connect()
    new = Partition("topic", "new", 0, "weblogs")
    assert ledger.strangers(SINK, T0) == []
    own(ledger)
    assert ledger.strangers(SINK, T0) == []
    assert ledger.strangers(SINK, new) == ["abc"]
    assert ledger.strangers(SinkId("p", "land.other", ""), new) == []
    own(ledger, new)
    assert ledger.strangers(SINK, new) == []


def test_file_origins_belong_to_one_instance(connect):
    ledger = connect()
    own(ledger, FILES[0])
    assert ledger.groups(SINK) == [Group("file")]
    assert ledger.groups(SinkId("p", "land.lake", "another")) == []


def test_thousands_of_files_are_enrolled_and_each_later_one_alone(connect):
    ledger = connect()
    owned = ledger.acquire(SINK, [Group("file")], "me")[Group("file")]
    many = [Partition("file", f"{n:032x}", 0, f"/{n}") for n in range(1300)]
    assert [held.partition for held in ledger.enroll(owned, many)] == many
    (one,) = ledger.enroll(owned, [many[700]])
    assert one.partition == many[700]
    assert len(ledger.held(owned)) == 1300


def test_to_forget_is_a_new_incarnation_and_fences_who_is_in_the_middle(connect):
    ledger = connect()
    owned, held = own(ledger)
    assert ledger.decide(decision(owned, held[T0], 0, 9), 1) is Answer.COMMITTED
    ledger.finalize("b" * 32, 1)
    assert stored(ledger, SINK) == {T0: Record(9, b"state")}
    forget(ledger, SINK, [T0])
    assert stored(ledger, SINK) == {}
    late = decision(owned, ledger.held(owned)[0], 9, 12, batch="c" * 32)
    late = Decision(late.batch, owned, (Advance(held[T0].id, "", 9, 12, None, ()),), ())
    assert ledger.decide(late, 1) is Answer.REFUSED
    owned, held = own(ledger)
    assert (held[T0].record, held[T0].furthest) == (None, 9)
    assert ledger.decide(decision(owned, held[T0], 0, 9, batch="c" * 32), 1) is Answer.COMMITTED


def test_to_forget_gives_up_what_was_never_published_but_only_as_a_whole(connect):
    ledger = connect()
    owned = ledger.acquire(SINK, [Group("file")], "me")[Group("file")]
    first, second, _ = ledger.enroll(owned, FILES)
    advances = (decision(owned, first, 0, 4).advances[0], decision(owned, second, 0, 4).advances[0])
    assert ledger.decide(Decision("d" * 32, owned, advances, ()), 1) is Answer.COMMITTED
    with pytest.raises(Halt, match="/var/log/1"):
        forget(ledger, SINK, [FILES[0]])
    assert len(stored(ledger, SINK)) == 2
    forget(ledger, SINK, FILES)
    assert ledger.undone(SINK, [owned]) == []


def test_a_ledger_that_cannot_be_reached_says_which_and_why(tmp_path):
    path = tmp_path / "ledger.db"
    path.mkdir()
    with pytest.raises(LedgerDown, match=r"ledger\.db"):
        Ledger(parse_url(f"sqlite:///{path}")).open("p")


def test_a_file_that_is_no_database_is_a_matter_for_a_person(tmp_path):
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(Halt, match="restore it"):
        Ledger(parse_url(f"sqlite:///{path}")).open("p")
