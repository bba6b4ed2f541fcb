"""Retries around verbs: until they succeed, told once, ended by leaving."""

import threading

import pytest
from structlog.testing import capture_logs

from tailrace.agents import patience as patience_module
from tailrace.agents.mailbox import Left
from tailrace.agents.patience import Patience
from tailrace.clock import ManualClock
from tailrace.component import Problem
from tailrace.errors import Halt, Retry


class Leave(threading.Event):
    """Waits by turning the clock, and remembers for how long."""

    def __init__(self, clock: ManualClock, leaves_after: int = 10**9) -> None:
        super().__init__()
        self.clock = clock
        self.waits: list[float] = []
        self.leaves_after = leaves_after

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0)
        self.clock.sleep(timeout or 0)
        return len(self.waits) > self.leaves_after


def failing(times: int, after: float = 1.0, text: str = "the broker is away"):
    left = [times]

    def verb(*arguments: object) -> tuple[object, ...]:
        if left[0]:
            left[0] -= 1
            raise Retry(text, after)
        return arguments

    return verb


def test_waits_grow_from_what_the_component_asks_up_to_a_bound() -> None:
    clock = ManualClock()
    leave = Leave(clock)
    assert Patience("a.s", leave, clock)(failing(7, 0.5), 1, 2) == (1, 2)
    assert leave.waits == [0.5, 1, 2, 4, 8, patience_module.LONGEST_WAIT, patience_module.LONGEST_WAIT]


def test_a_component_may_ask_for_longer_waits() -> None:
    clock = ManualClock()
    leave = Leave(clock)
    Patience("a.s", leave, clock)(failing(2, 45.0))
    assert leave.waits == [45, 45]


def test_waits_begin_small_again_for_the_next_call() -> None:
    clock = ManualClock()
    leave = Leave(clock)
    patience = Patience("a.s", leave, clock)
    patience(failing(3))
    patience(failing(1))
    assert leave.waits == [1, 2, 4, 1]


def test_a_reason_is_logged_first_then_once_a_minute_and_so_is_its_end() -> None:
    clock = ManualClock()
    leave = Leave(clock)
    with capture_logs() as logs:
        Patience("a.s", leave, clock)(failing(30, 10.0))
    assert [log["event"] for log in logs] == ["waits and tries again"] * 5 + ["goes on"]
    assert logs[0]["reason"] == "the broker is away"
    assert logs[-1]["after_seconds"] == 300


def test_a_reason_that_differs_from_try_to_try_in_numbers_alone_is_logged_once_a_minute_too() -> None:
    clock = ManualClock()
    tries = iter(range(30))

    def verb() -> None:
        if (number := next(tries)) < 20:
            upload = f"/lake/66d81b7628.parquet{f'.{number}' if number else ''}"
            raise Retry(
                f"CREATE {upload}: <connection at 0x7fa{number}>: refused; {90 - number}.5 GiB free", 10.0
            )
        raise Halt("the end")

    with capture_logs() as logs, pytest.raises(Halt):
        Patience("a.s", Leave(clock), clock)(verb)
    assert [log["for_seconds"] for log in logs] == [0, 60, 120, 180]


def test_another_reason_is_logged_when_it_comes() -> None:
    clock = ManualClock()
    reasons = iter(["in safe mode", "in safe mode", "connection refused"])

    def verb() -> None:
        if reason := next(reasons, None):
            raise Retry(reason, 5.0)

    with capture_logs() as logs:
        Patience("a.s", Leave(clock), clock)(verb)
    assert [log.get("reason") for log in logs] == ["in safe mode", "connection refused", None]


def test_trouble_can_be_seen_while_it_lasts() -> None:
    clock = ManualClock()
    leave = Leave(clock)
    patience = Patience("a.s", leave, clock)
    seen = []
    verb = failing(1)

    def look() -> None:
        seen.append(patience.trouble)
        verb()

    patience(look)
    assert seen == [None, Problem("a.s", "the broker is away")]
    assert patience.trouble is None


def test_leaving_ends_the_wait() -> None:
    clock = ManualClock()
    with pytest.raises(Left):
        Patience("a.s", Leave(clock, leaves_after=2), clock)(failing(10))


def test_other_errors_are_not_retried() -> None:
    clock = ManualClock()
    leave = Leave(clock)

    def verb() -> None:
        raise Halt("no")

    with pytest.raises(Halt):
        Patience("a.s", leave, clock)(verb)
    assert leave.waits == []
