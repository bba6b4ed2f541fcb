"""Gathers what a source's targets have committed, and tells the source the least of it."""

from collections.abc import Collection, Mapping
from queue import Empty, SimpleQueue

from tailrace.component import Source
from tailrace.errors import Retry
from tailrace.event import Partition

TELL_EVERY = 1.0
"""Seconds between two calls of Source.committed, which may cost the source a request or a rename."""


class Commits:
    """The committed positions of one source's partitions. post() may be called by any thread."""

    def __init__(self) -> None:
        self._posted: SimpleQueue[tuple[object, Mapping[Partition, int], str]] = SimpleQueue()
        self._positions: dict[object, dict[Partition, int]] = {}
        self._stamps: dict[object, str] = {}
        self._untold: set[Partition] = set()
        self._told_at = float("-inf")

    def add(self, target: object) -> None:
        """A target whose positions count; each partition waits for all of them."""
        self._positions[target] = {}

    def post(self, target: object, positions: Mapping[Partition, int], stamp: str) -> None:
        """`target` has stored everything of these partitions before these positions."""
        self._posted.put((target, positions, stamp))

    def tell(self, source: Source, now: float, *, at_once: bool = False) -> None:
        """Passes on what is new, at most every TELL_EVERY seconds unless `at_once`. The source's thread."""
        if not at_once and now - self._told_at < TELL_EVERY:
            return
        self._collect()
        least = {}
        for partition in self._untold:
            positions = [of_target.get(partition) for of_target in self._positions.values()]
            known = [position for position in positions if position is not None]
            if known and len(known) == len(positions):
                least[partition] = min(known)
        self._told_at = now
        if not least:
            return
        stamps = set(self._stamps.values())
        try:
            source.committed(least, stamps.pop() if len(stamps) == 1 else "")
            self._untold -= least.keys()
        except Retry:
            pass  # it is advice; the next time will do

    def forget(self, partitions: Collection[Partition]) -> None:
        """They are somebody else's now."""
        self._collect()
        self._untold.difference_update(partitions)
        for of_target in self._positions.values():
            for partition in partitions:
                of_target.pop(partition, None)

    def _collect(self) -> None:
        while True:
            try:
                target, positions, stamp = self._posted.get_nowait()
            except Empty:
                return
            self._positions[target] |= positions
            self._stamps[target] = stamp
            self._untold |= positions.keys()
