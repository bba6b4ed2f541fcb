"""When a process that failed may be started again, and when it must not be. Pure: the time comes in."""

from collections import deque

STABLE = 10.0
"""Seconds after which a process that is up has got over whatever it failed with before."""
CORRUPT_TIMES, CORRUPT_WITHIN = 3, 600.0
"""A process that ended as corrupt so often within so many seconds will not get better."""


class Backoff:
    """Restarts of a process: `initial` seconds after a failure, doubled up to `longest` while they follow."""

    def __init__(self, initial: float, longest: float) -> None:
        self._initial = initial
        self._longest = longest
        self._failures = 0
        self._corrupt: deque[float] = deque(maxlen=CORRUPT_TIMES)

    def after_failure(self, lived: float, got_on: bool) -> float:
        """Seconds to wait. It `lived` so many seconds, and `got_on` when it did some of its work."""
        if lived >= STABLE or got_on:
            self._failures = 0
        self._failures += 1
        return min(self._initial * 2.0 ** min(self._failures - 1, 30), self._longest)

    def gives_up_on_corrupt(self, now: float) -> bool:
        """Call once for each end as corrupt; `now` is monotonic seconds."""
        self._corrupt.append(now)
        return len(self._corrupt) == CORRUPT_TIMES and now - self._corrupt[0] <= CORRUPT_WITHIN
