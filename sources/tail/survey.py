"""When to look at all files anew: every so often, at once when a file turned out to be another, and soon after
events.
"""

from tailrace.clock import Clock
from tailrace.sources.tail.catalog import Catalog
from tailrace.sources.tail.patterns import Finder, Found
from tailrace.sources.tail.tracked import Tracked
from tailrace.sources.tail.wake import Wake

_REST = 5
"""After a look that took a second, events do not cause the next one before this many seconds."""


class Survey:
    """Looks, and waits for the next look. Events (wake.py) only make it come sooner."""

    def __init__(self, finder: Finder, wake: Wake, rescan: float, clock: Clock) -> None:
        self.must_look = True
        """Only a new look can tell what a file holds."""
        self._finder = finder
        self._wake = wake
        self._rescan = rescan
        self._clock = clock
        self._wants_look = False
        self._looked_at = 0.0
        self._took = 0.0

    def is_due(self) -> bool:
        since = self._clock.monotonic() - self._looked_at
        wants = self._wants_look and since >= _REST * self._took
        return self.must_look or wants or since >= self._rescan

    def look(self) -> Found:
        began = self._clock.monotonic()
        found = self._finder.look()
        self._looked_at = self._clock.monotonic()
        self._took = self._looked_at - began
        self.must_look = self._wants_look = False
        self._wake.watch(found.directories)
        return found

    def hasten(self) -> None:
        """A name led nowhere: look soon."""
        self._wants_look = True

    def wait(self, timeout: float) -> None:
        """Until `timeout`, the next look or an event, whichever comes first."""
        since = self._clock.monotonic() - self._looked_at
        next_look = (_REST * self._took if self._wants_look else self._rescan) - since
        self._wake.wait(max(0.0, min(timeout, next_look)))

    def changed(self, catalog: Catalog) -> list[Tracked]:
        """Contents of which events told since the last call."""
        paths, names_changed = self._wake.take()
        self._wants_look |= names_changed
        return [tracked for path in paths for tracked in catalog.named(path) if tracked.attached]
