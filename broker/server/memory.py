"""One budget of bytes for what connections hold: large requests on their way in, answers on their way out.

A request larger than the whole budget is let in when nothing else is. Waiting is in order of arrival.
"""

from collections import OrderedDict, deque
from collections.abc import Callable

_LARGEST_IDLE = 8
"""An idle buffer is at most this part of the budget: a rare large request is not worth keeping memory for."""


class Memory:
    """Leases are by owner, any hashable object. All methods belong to the event loop."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._idle: OrderedDict[object, tuple[int, Callable[[], None]]] = OrderedDict()
        self._waiting: deque[tuple[object, int, Callable[[], None]]] = deque()

    @property
    def used(self) -> int:
        """Bytes leased, those that lie idle among them."""
        return self._used

    @property
    def scarce(self) -> bool:
        """Whether somebody waits, or more is leased than there should be."""
        return bool(self._waiting) or self._used > self._limit

    def lease(self, owner: object, size: int, granted: Callable[[], None]) -> bool:
        """True when `size` bytes are the owner's now; else `granted` is called when they are."""
        if not self._waiting and self._fits(size):
            self._used += size
            return True
        self._waiting.append((owner, size, granted))
        return False

    def take(self, size: int) -> None:
        """Leases without asking: for what is there already, and for what is bounded elsewhere."""
        self._used += size

    def _fits(self, size: int) -> bool:
        while self._idle and self._used + size > self._limit:
            owner = next(iter(self._idle))
            kept, drop = self._idle.pop(owner)
            self._used -= kept
            drop()
        return self._used + size <= self._limit or self._used == 0

    def keep_idle(self, owner: object, size: int, drop: Callable[[], None]) -> bool:
        """Keeps `size` leased bytes as a buffer for reuse, until somebody needs them (then `drop`).

        False when somebody waits already, or they are a large part of all: nothing was changed, give them
        back.
        """
        if self._waiting or size > self._limit // _LARGEST_IDLE:
            return False
        self._idle[owner] = size, drop
        return True

    def reuse(self, owner: object) -> None:
        """The owner takes its idle buffer into use again; the lease stays."""
        self._idle.pop(owner, None)

    def release(self, size: int) -> None:
        self._used -= size
        while self._waiting and self._fits(self._waiting[0][1]):
            _, wanted, granted = self._waiting.popleft()
            self._used += wanted
            granted()

    def forget(self, owner: object) -> None:
        """The owner is gone: its place in the queue and its idle buffer are."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] is not owner)
        idle = self._idle.pop(owner, None)
        self.release(0 if idle is None else idle[0])
