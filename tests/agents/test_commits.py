"""What a source is told about commits."""

from tailrace.agents.commits import TELL_EVERY, Commits
from tailrace.errors import Retry
from tests.support.doubles import Numbers, partition

P, Q = partition("p"), partition("q")


def commits(*targets: str) -> Commits:
    made = Commits()
    for target in targets:
        made.add(target)
    return made


def test_the_least_of_all_targets_and_only_once_all_have_it() -> None:
    told, source = commits("one", "two"), Numbers([], 0)
    told.post("one", {P: 10, Q: 5}, "s")
    told.tell(source, 0)
    assert source.told == {}
    told.post("two", {P: 7}, "s")
    told.tell(source, 100)
    assert source.told == {P: 7} and source.stamps == ["s"]
    told.post("two", {P: 30}, "s")
    told.tell(source, 200)
    assert source.told == {P: 10}


def test_not_too_often_but_at_once_when_asked() -> None:
    told, source = commits("one"), Numbers([], 0)
    told.post("one", {P: 1}, "s")
    told.tell(source, 50)
    told.post("one", {P: 2}, "s")
    told.tell(source, 50 + TELL_EVERY / 2)
    assert source.told == {P: 1}
    told.tell(source, 50 + TELL_EVERY / 2, at_once=True)
    assert source.told == {P: 2}


def test_stamps_that_differ_are_no_stamp() -> None:
    told, source = commits("one", "two"), Numbers([], 0)
    told.post("one", {P: 1}, "a")
    told.post("two", {P: 1}, "b")
    told.tell(source, 0)
    assert source.stamps == [""]


def test_what_was_given_up_is_not_told_any_more() -> None:
    told, source = commits("one"), Numbers([], 0)
    told.post("one", {P: 1, Q: 1}, "s")
    told.forget([P])
    told.tell(source, 0)
    assert source.told == {Q: 1}


def test_a_source_that_cannot_take_it_now_hears_it_again() -> None:
    told, source = commits("one"), Numbers([], 0)
    committed = source.committed

    def away(positions: object, stamp: str) -> None:
        raise Retry("the coordinator is away")

    source.committed = away  # type: ignore[method-assign, assignment]
    told.post("one", {P: 1}, "s")
    told.tell(source, 0)
    source.committed = committed  # type: ignore[method-assign]
    told.tell(source, 100)
    assert source.told == {P: 1}
