"""What became of a file that is followed, between two looks: nothing, more bytes, another name, a cut, its end."""

import enum
import os

from tailrace.sources.tail.catalog import Catalog
from tailrace.sources.tail.patterns import Found, Seen, seen_from
from tailrace.sources.tail.tracked import Moment, Tracked

_LOOKS = 2
"""Looks in a row that must miss a file before it counts as gone: one may fall right between two renames."""


class Fate(enum.Enum):
    SAME = "nothing new"
    CHANGED = "there may be something to read"
    CUT = "its file is shorter than what was read: it holds something else now"
    GONE = "its file is nowhere to be found"
    DOUBTFUL = "a file with its inode has another name and another size: perhaps the inode was used again"


def follow(tracked: Tracked, seen: Seen | None, found: Found, catalog: Catalog, now: Moment) -> Fate:
    """`seen` is what this look found under one of the patterns with the tracked file's inode."""
    if seen is not None:
        tracked.is_outside = tracked.is_deleted = False
        return _look(tracked, seen, catalog, now)
    if tracked.content is not None:
        return _follow_descriptor(tracked, tracked.content.fd, catalog, now)
    for directory in {os.path.dirname(tracked.path), os.path.dirname(tracked.born)}:
        for entry in found.listing(directory):
            if entry.inode() == tracked.key[1] and (there := look_at_path(entry.path)) is not None:
                if there.key == tracked.key:
                    tracked.is_outside = True
                    return _look(tracked, there, catalog, now)
    tracked.missing += 1
    return Fate.GONE if tracked.missing >= _LOOKS else Fate.SAME


def _follow_descriptor(tracked: Tracked, fd: int, catalog: Catalog, now: Moment) -> Fate:
    """No pattern leads to it any more, but it is open: it can be read to its end whatever it is called now."""
    status = os.fstat(fd)
    seen = seen_from(tracked.path, status, -1)
    tracked.is_outside = True
    if status.st_nlink == 0:
        tracked.is_deleted = True
        return _look(tracked, seen, catalog, now)
    try:
        path = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        path = tracked.path
    there = look_at_path(path)
    return _look(tracked, there if there is not None and there.key == tracked.key else seen, catalog, now)


def _look(tracked: Tracked, seen: Seen, catalog: Catalog, now: Moment) -> Fate:
    tracked.missing = 0
    if seen.size < tracked.progress.position and not tracked.is_gzip:
        return Fate.CUT
    if seen.path != tracked.path and tracked.content is None and seen.stamp[:2] != tracked.stamp[:2]:
        return Fate.DOUBTFUL
    catalog.rename(tracked, seen.path)
    return Fate.CHANGED if tracked.look_at(seen.stamp, now) else Fate.SAME


def look_at_path(path: str) -> Seen | None:
    """What a path that no pattern names leads to, when it is a regular file and no link."""
    try:
        seen = seen_from(path, os.lstat(path), -1)
    except OSError:
        return None
    return seen if seen.is_regular else None
