"""How long a sink that was fenced or rewound waits before it starts over, and when it must stop instead."""

from collections import deque

from tailrace.clock import Clock
from tailrace.component import Membership
from tailrace.errors import Fenced, Halt, Retry, Rewind

TIMES = 3
WITHIN = 600.0
"""A sink fenced TIMES times in WITHIN seconds has a rival that will not go away."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
"""Seconds that a sink waits after a setback; doubled after each that follows without a commit between."""


class Fences:
    """The setbacks of one sink. A fence that a rebalance of its source's group explains is not a rival's."""

    def __init__(self, place: str, clock: Clock) -> None:
        self.membership: Membership | None = None
        self._place = place
        self._clock = clock
        self._fenced: deque[float] = deque(maxlen=TIMES)
        self._setbacks = 0

    def went_well(self) -> None:
        """A commit was stored: the next setback is the first again."""
        self._setbacks = 0

    def pause(self, error: Rewind | Fenced) -> float:
        """Seconds to wait before acquiring again. Raises Halt when that has been tried often enough."""
        self._setbacks += 1
        if isinstance(error, Fenced) and not self._rebalanced():
            now = self._clock.monotonic()
            self._fenced.append(now)
            if len(self._fenced) == TIMES and now - self._fenced[0] <= WITHIN:
                raise Halt(
                    f"{self._place}: fenced {TIMES} times within ten minutes; another process has the same"
                    f" name and state, stop one of the two: {error}"
                )
        return min(FIRST_PAUSE * 2.0 ** min(self._setbacks - 1, 10), LONGEST_PAUSE)

    def _rebalanced(self) -> bool:
        """The source has lost its place in the group, or nobody can say (the broker is away)."""
        try:
            if self.membership is not None:
                self.membership.heartbeat()
        except (Fenced, Retry):
            return True
        return False
