"""When a fenced sink tries again, and when it stops."""

import pytest

from tailrace.agents.fences import LONGEST_PAUSE, Fences
from tailrace.clock import ManualClock
from tailrace.errors import Fenced, Halt, Retry, Rewind


class Group:
    group, generation, member_id, instance_id = "g", 1, "m", None

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def heartbeat(self) -> None:
        if self.error is not None:
            raise self.error

    def offsets(self, partitions: object) -> dict[object, object]:
        return {}


def test_the_third_fence_in_ten_minutes_halts() -> None:
    clock = ManualClock()
    fences = Fences("a.s", clock)
    fences.pause(Fenced("x"))
    clock.advance(599)
    fences.pause(Fenced("x"))
    clock.advance(1)
    with pytest.raises(Halt, match=r"a.s: fenced 3 times within ten minutes; .*: host b took over"):
        fences.pause(Fenced("host b took over"))


def test_rare_fences_never_halt() -> None:
    clock = ManualClock()
    fences = Fences("a.s", clock)
    for _ in range(10):
        fences.pause(Fenced("x"))
        clock.advance(301)


@pytest.mark.parametrize("error", [Fenced("generation 3"), Retry("broker away")])
def test_fences_that_a_rebalance_explains_do_not_count(error: Exception) -> None:
    fences = Fences("a.s", ManualClock())
    fences.membership = Group(error)  # type: ignore[assignment]
    for _ in range(10):
        fences.pause(Fenced("x"))


def test_fences_of_a_member_in_good_standing_count() -> None:
    fences = Fences("a.s", ManualClock())
    fences.membership = Group(None)  # type: ignore[assignment]
    fences.pause(Fenced("x"))
    fences.pause(Fenced("x"))
    with pytest.raises(Halt):
        fences.pause(Fenced("x"))


def test_pauses_grow_until_a_commit_succeeds() -> None:
    fences = Fences("a.s", ManualClock())
    pauses = [fences.pause(Rewind("x")) for _ in range(20)]
    assert pauses == sorted(pauses) and pauses[0] < 0.5 and pauses[-1] == LONGEST_PAUSE
    fences.went_well()
    assert fences.pause(Rewind("x")) == pauses[0]
