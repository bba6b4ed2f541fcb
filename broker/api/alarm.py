"""One asyncio timer for many deadlines: the coordinators keep those, this rings at the earliest."""

import asyncio
from collections.abc import Callable

from tailrace.broker.coordinator.moment import Moment
from tailrace.clock import Clock


def moment(clock: Clock) -> Moment:
    """Both clocks now."""
    return Moment(clock.now_ms(), int(clock.monotonic() * 1000))


class Alarm:
    """All methods belong to the event loop. `earliest` answers steady ms, or None when nothing is due."""

    def __init__(self, clock: Clock, earliest: Callable[[], int | None], ring: Callable[[], None]) -> None:
        self._clock = clock
        self._earliest = earliest
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._set_for = 0
        self._closed = False

    def set(self) -> None:
        """Call it when a deadline may be earlier than all before; ringing too early does no harm."""
        due = self._earliest()
        if self._closed or due is None or (self._timer is not None and self._set_for <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._set_for = due
        delay = max(due - moment(self._clock).steady, 0) / 1000
        self._timer = asyncio.get_running_loop().call_later(delay, self._go_off)

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _go_off(self) -> None:
        self._timer = None
        self._ring()
        self.set()
