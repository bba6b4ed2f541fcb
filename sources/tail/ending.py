"""When a run with `--once` is over: every file is read to the end it had when it was first looked at."""

from collections.abc import Iterable

from tailrace.component import Problem
from tailrace.sources.tail.reading import STILL_ONCE
from tailrace.sources.tail.tracked import Moment, Tracked


class Ending:
    """Remembers the ends, and waits a little for half-written last lines."""

    def __init__(self) -> None:
        self.goals: dict[Tracked, int] = {}
        self.left: list[Problem] = []
        """What was not read, and why."""
        self._quiet_since: float | None = None

    def add(self, tracked: Tracked) -> None:
        """Its present size is as far as it will be read. Archives are read whole."""
        if not tracked.is_gzip:
            self.goals.setdefault(tracked, tracked.size)

    def go_on(self) -> None:
        """Something was read."""
        self._quiet_since = None

    def has_come(self, attached: Iterable[Tracked], undecided: Iterable[str], now: Moment) -> bool:
        """True when nothing is left, or what is left will not be ready soon. Ask when all else is done."""
        if self._quiet_since is None:
            self._quiet_since = now.monotonic
        is_over = now.monotonic - self._quiet_since >= STILL_ONCE
        self.left = []
        is_waiting = False
        for tracked in attached:
            if not tracked.rest or tracked.progress.position >= self.goals.get(tracked, tracked.size):
                continue
            if tracked.still_since > self._quiet_since:
                text = "its last line has no end yet and is still being written: left for the next run"
                self.left.append(Problem(tracked.path, text))
            else:
                is_waiting = True
        for path in undecided:
            is_waiting |= not is_over
            text = "may be an unfinished copy of a file that was read: left for the next run"
            self.left.append(Problem(path, text))
        return not is_waiting
