"""Calls a component's verb again for as long as it raises Retry: the only place where anything is retried.

A reason is logged when it first appears and once a minute while it lasts, and so is its end.
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type
from tenacity.wait import wait_base

from tailrace.agents.mailbox import Left
from tailrace.clock import Clock
from tailrace.component import Problem
from tailrace.errors import Retry

T = TypeVar("T")

LONGEST_WAIT = 10.0
"""Seconds between two attempts at the most, unless the component itself asks for longer."""
SAY_AGAIN = 60.0
"""Seconds after which a reason that lasts is logged again."""


class _Wait(wait_base):
    """The wait that Retry asks for, doubled after each attempt, up to LONGEST_WAIT."""

    def __call__(self, retry_state: RetryCallState) -> float:
        error = retry_state.outcome.exception() if retry_state.outcome is not None else None
        asked = error.after if isinstance(error, Retry) else 1.0
        doubled = asked * 2.0 ** min(retry_state.attempt_number - 1, 10)
        return max(asked, min(doubled, LONGEST_WAIT))


class Patience:
    """The retry policy of one component. Its own thread calls it; `trouble` may be read by any."""

    def __init__(self, place: str, leave: threading.Event, clock: Clock) -> None:
        self.trouble: Problem | None = None
        self._place = place
        self._leave = leave
        self._clock = clock
        self._log = structlog.get_logger().bind(component=place)
        self._since = 0.0
        self._said_at = 0.0
        self._retrying = Retrying(
            retry=retry_if_exception_type(Retry),
            wait=_Wait(),
            sleep=self._sleep,
            before_sleep=self._tell,
            reraise=True,
        )

    def __call__(self, verb: Callable[..., T], *arguments: Any) -> T:
        """verb(*arguments), as often as it takes. Raises Left when the agent leaves meanwhile."""
        result = self._retrying(verb, *arguments)
        if self.trouble is not None:
            self._log.warning("goes on", after_seconds=round(self._clock.monotonic() - self._since, 1))
            self.trouble = None
        return result

    def _sleep(self, seconds: float) -> None:
        if self._leave.wait(seconds):
            raise Left

    def _tell(self, retry_state: RetryCallState) -> None:
        error = retry_state.outcome.exception() if retry_state.outcome is not None else None
        now, trouble = self._clock.monotonic(), Problem(self._place, str(error))
        if self.trouble is None:
            self._since = now
        if (
            self.trouble is None
            or (self.trouble.gist != trouble.gist and now - self._said_at >= 1)
            or now - self._said_at >= SAY_AGAIN
        ):
            since = round(now - self._since, 1)
            self._log.warning("waits and tries again", reason=trouble.text, for_seconds=since)
            self._said_at = now
        self.trouble = trouble
