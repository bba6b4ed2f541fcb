"""Whose turn it is: files that may have something to read, in the order they asked, or the oldest first."""

import heapq
from itertools import count

from tailrace.sources.tail.tracked import Tracked


class Turns:
    """A file reads up to `turn` bytes; then the next one comes, so that a busy one does not starve the others."""

    def __init__(self, turn: int, *, oldest_first: bool) -> None:
        self._turn = turn
        self._oldest_first = oldest_first
        self._waiting: list[tuple[int, int, Tracked]] = []
        self._count = count()
        self._left = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, tracked: Tracked) -> None:
        """Puts it at the end, unless it waits already."""
        if not tracked.queued:
            tracked.queued = True
            age = tracked.modified if self._oldest_first else 0
            heapq.heappush(self._waiting, (age, next(self._count), tracked))

    def current(self) -> Tracked | None:
        """The file whose turn it is; the same until done() or until its turn is used up."""
        if not self._waiting:
            return None
        if self._left <= 0:
            self._left = self._turn
        return self._waiting[0][2]

    def used(self, size: int) -> None:
        """The current file has read `size` bytes, and may have more."""
        self._left -= size
        if self._left <= 0:
            self.pass_on()

    def pass_on(self) -> None:
        """The current file has more, but it is the next one's turn."""
        self.ask(self.done())

    def done(self) -> Tracked:
        """The current file has nothing more now."""
        tracked = heapq.heappop(self._waiting)[2]
        tracked.queued = False
        self._left = 0
        return tracked
