"""A group of child processes, listened to together; none of them outlives the group."""

import selectors
from collections.abc import Callable
from typing import Protocol, Self

from tailrace.clock import Clock

TICK = 0.1
"""Seconds between two looks at the children."""


class Supervised(Protocol):
    """One that is started and started again (agent_process.py, broker_process.py)."""

    @property
    def pid(self) -> int | None:
        """Of the process that is up; None when none is."""
        ...

    def step(self, selector: selectors.BaseSelector, now: float) -> None:
        """Notices an end, and starts what is due; `selector` is where its pipes are listened to."""
        ...

    def stop(self) -> None:
        """SIGTERM; from now on it is not started again."""
        ...

    def kill(self) -> None: ...


class Children:
    """A context manager, for the main thread alone (see orphan.py)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._children: list[Supervised] = []

    def add(self, child: Supervised) -> None:
        self._children.append(child)

    def run_until(
        self,
        condition: Callable[[], bool],
        deadline: float = float("inf"),
        each: Callable[[float], None] | None = None,
    ) -> bool:
        """Lets them run, and calls `each` with the time at every look. False: `deadline` came first."""
        while not condition():
            for key, _ in self._selector.select(TICK):
                key.data()
            now = self._clock.monotonic()
            for child in self._children:
                child.step(self._selector, now)
            if each is not None:
                each(now)
            if now >= deadline:
                return condition()
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.stop()
            child.kill()
        for child in self._children:
            while child.pid is not None:
                child.step(self._selector, self._clock.monotonic())
                self._clock.sleep(0.01)
        self._selector.close()
