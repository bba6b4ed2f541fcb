"""Time as a parameter: the real clock, and one that tests turn by hand."""

import time
from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall clock, ms since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class ManualClock:
    """A clock that stands still until told: for tests. sleep() moves it and returns at once."""

    def __init__(self, ms: int = 1_700_000_000_000) -> None:
        self._ms = float(ms)
        self._start = self._ms

    def now_ms(self) -> int:
        return int(self._ms)

    def monotonic(self) -> float:
        return (self._ms - self._start) / 1000

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._ms += seconds * 1000
