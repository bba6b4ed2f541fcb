"""Deadlines by key. Moving one later costs a dict write, since every heartbeat of every member does that."""

import heapq
from typing import Generic, TypeVar

K = TypeVar("K")
_MANY = 1_000


class Timers(Generic[K]):
    """Keys that fall due at a time in steady ms. Each has at most one deadline.

    The heap may hold a key earlier than its deadline, never later: such an entry is pushed again when it
    comes up. So heap work is done once per time-out, not once per heartbeat.
    """

    def __init__(self) -> None:
        self._deadlines: dict[K, int] = {}
        self._heap: list[tuple[int, int, K]] = []
        self._queued: dict[K, int] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._deadlines)

    def set(self, key: K, deadline: int | None) -> None:
        """Replaces the key's deadline; None takes it away."""
        if deadline is None:
            self._deadlines.pop(key, None)
            return
        self._deadlines[key] = deadline
        if deadline < self._queued.get(key, deadline + 1):
            self._push(key, deadline)

    def deadline(self, key: K) -> int | None:
        return self._deadlines.get(key)

    def next(self) -> int | None:
        """The earliest deadline; None when nothing is set."""
        while self._heap:
            due, _, key = self._heap[0]
            deadline = self._deadlines.get(key)
            if deadline == due:
                return due
            heapq.heappop(self._heap)
            if self._queued.get(key) == due:
                del self._queued[key]
                if deadline is not None:
                    self._push(key, deadline)
        return None

    def pop(self, now: int) -> K | None:
        """Takes away and answers one key whose deadline is `now` or earlier, the earliest first."""
        due = self.next()
        if due is None or due > now:
            return None
        _, _, key = heapq.heappop(self._heap)
        del self._queued[key]
        del self._deadlines[key]
        return key

    def _push(self, key: K, deadline: int) -> None:
        if len(self._heap) > _MANY + 4 * len(self._deadlines):
            self._rebuild()
            return
        self._serial += 1
        self._queued[key] = deadline
        heapq.heappush(self._heap, (deadline, self._serial, key))

    def _rebuild(self) -> None:
        """The heap is mostly keys that were taken away long before they fell due: leaves those out."""
        self._queued = dict(self._deadlines)
        self._heap = [(due, n, key) for n, (key, due) in enumerate(self._deadlines.items())]
        self._serial = len(self._heap)
        heapq.heapify(self._heap)
