"""Which files are to be read: found, old enough, and told apart from those that were read or begun before."""

import os
from collections import defaultdict
from collections.abc import Collection, Sequence

from tailrace.clock import Clock
from tailrace.sources.chunks import ChunkReader
from tailrace.sources.content import PlainContent
from tailrace.sources.spool.listing import Key, Listed, Names, files, open_beneath
from tailrace.sources.spool.spooled import Spooled, new_spooled


class Intake:
    """Looks into the directory, and takes up what is there."""

    def __init__(
        self,
        directory: str,
        names: Names,
        *,
        recursive: bool,
        besides: Sequence[str],
        settle: float,
        clock: Clock,
        once: bool,
    ) -> None:
        """besides: directories that are left out.
        settle: seconds for which a file must not have changed.
        once: only what the first look finds is taken up.
        """
        self.unsettled: dict[Key, tuple[Listed, float]] = {}
        """Files that are too young: as they were when they changed last, and when that was (monotonic s)."""
        self._directory = directory
        self._names = names
        self._recursive = recursive
        self._besides = besides
        self._settle = settle
        self._clock = clock
        self._records: dict[int, list[Spooled]] = defaultdict(list)
        """What the sinks have records of, by inode, until the file is found."""
        self._reader = ChunkReader(max_line=1)
        self._once = once
        self._only: frozenset[Key] | None = None

    def expect(self, spooled: Spooled) -> None:
        """A sink has a record of this file."""
        self._records[spooled.listed.key[1]].append(spooled)

    def look(self, known: Collection[Key]) -> list[Spooled]:
        """Files that are not in `known`. Raises OSError when the directory cannot be listed."""
        found = list(files(self._directory, self._names, recursive=self._recursive, besides=self._besides))
        if self._once and self._only is None:
            self._only = frozenset(listed.key for listed in found)
        # Two names of one file are one file.
        by_key = {listed.key: listed for listed in reversed(found)}
        new = [
            f for f in by_key.values() if f.key not in known and (self._only is None or f.key in self._only)
        ]
        now = self._clock.monotonic()
        self.unsettled = {f.key: self._last_change(f, now) for f in new if not self._is_settled(f, now)}
        return [self._take_up(listed) for listed in new if listed.key not in self.unsettled]

    def _is_settled(self, listed: Listed, now: float) -> bool:
        if self._clock.now_ms() / 1000 - listed.mtime_ns / 1e9 >= self._settle:
            return True
        # Its time may be wrong; what was seen is not.
        return now - self._last_change(listed, now)[1] >= self._settle

    def _last_change(self, listed: Listed, now: float) -> tuple[Listed, float]:
        before = self.unsettled.get(listed.key)
        return before if before is not None and before[0] == listed else (listed, now)

    def _take_up(self, listed: Listed) -> Spooled:
        for spooled in self._records[listed.key[1]]:
            # Device numbers may change when the machine starts anew.
            if listed.key != spooled.listed.key and listed.name != spooled.listed.name:
                continue
            if listed.stamp == spooled.listed.stamp or self._begins_alike(listed, spooled):
                self._records[listed.key[1]].remove(spooled)
                if listed.stamp != spooled.listed.stamp:
                    spooled.fail("it was changed after it had been begun")
                spooled.listed = listed
                return spooled
        return new_spooled(listed, self._directory)

    def _begins_alike(self, listed: Listed, spooled: Spooled) -> bool:
        try:
            content = PlainContent(open_beneath(self._directory, listed.name))
        except OSError:
            return False
        try:
            return spooled.progress.position > 0 and self._reader.check(content, spooled.progress)
        finally:
            content.close()


def nearest_device(path: str) -> int:
    """The device of `path`, or of the directory that it would be made in."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return os.stat(path).st_dev
