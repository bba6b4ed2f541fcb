"""All contents that are known, and the ways to find them: by partition, by file, and by the names they had."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from tailrace.event import Partition
from tailrace.sources.tail.names import extended, root
from tailrace.sources.tail.patterns import Key
from tailrace.sources.tail.tracked import Tracked

MOST_LOST = 50_000
"""Contents without a file that are remembered; the ones seen longest ago are forgotten first."""


class Catalog:
    """A content is attached to at most one file, and a file holds at most one content."""

    def __init__(self) -> None:
        self._all: dict[Partition, Tracked] = {}
        self._attached: dict[Key, Tracked] = {}
        self._lost: dict[Partition, Tracked] = {}
        self._lost_by_inode: dict[int, set[Tracked]] = defaultdict(set)
        self._by_name: dict[str, set[Tracked]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._all)

    def add(self, tracked: Tracked) -> None:
        """A content that has no file yet."""
        self._all[tracked.partition] = tracked
        for name in _names(tracked):
            self._by_name[name].add(tracked)
        self._add_lost(tracked)

    def get(self, partition: Partition) -> Tracked | None:
        return self._all.get(partition)

    def at(self, key: Key) -> Tracked | None:
        """The content of a file."""
        return self._attached.get(key)

    def attached(self) -> Collection[Tracked]:
        return list(self._attached.values())

    def lost(self) -> Collection[Tracked]:
        """Contents whose file is gone, was cut, or was not found yet."""
        return list(self._lost.values())

    def lost_at_inode(self, inode: int) -> Collection[Tracked]:
        """Lost ones whose last file had this inode (on any device)."""
        return list(self._lost_by_inode.get(inode, ()))

    def attach(self, tracked: Tracked, path: str, key: Key) -> None:
        """From now on the file `key`, named `path`, holds this content."""
        assert not tracked.attached
        assert key not in self._attached
        self._remove_lost(tracked)
        tracked.attached, tracked.key, tracked.missing = True, key, 0
        self._attached[key] = tracked
        self.rename(tracked, path)

    def detach(self, tracked: Tracked) -> None:
        """Nothing is known to hold this content any more."""
        del self._attached[tracked.key]
        tracked.attached = False
        self._add_lost(tracked)

    def rename(self, tracked: Tracked, path: str) -> None:
        if tracked.path == path:
            return
        before = _names(tracked)
        tracked.path = path
        after = _names(tracked)
        for name in before - after:
            self._drop_name(tracked, name)
        for name in after:
            self._by_name[name].add(tracked)

    def directories(self) -> set[str]:
        """Where the files of all contents are or were."""
        return {os.path.dirname(name) for name in self._by_name if name}

    def named(self, path: str) -> Collection[Tracked]:
        """Contents whose name is or was `path`, or a rotated form of it."""
        return self._by_name.get(path, ())

    def relatives(self, path: str) -> Iterator[Tracked]:
        """Contents of which `path` may name a copy: it extends a name that they have or had.

        Archives of which nothing was read are left out: it is not known what they hold.
        """
        yielded = set()
        for name in extended(path):
            for tracked in self.named(name):
                if tracked not in yielded and not tracked.skip:
                    yielded.add(tracked)
                    yield tracked

    def forget_oldest(self) -> None:
        """Keeps memory bounded: forgets lost contents that nothing more is expected of."""
        if len(self._lost) <= MOST_LOST:
            return
        idle = sorted((t for t in self._lost.values() if not t.assigned), key=lambda t: t.first_seen)
        self._remove(idle[: len(self._lost) - MOST_LOST])

    def _remove(self, lost: Iterable[Tracked]) -> None:
        for tracked in lost:
            self._remove_lost(tracked)
            del self._all[tracked.partition]
            for name in _names(tracked):
                self._drop_name(tracked, name)

    def _add_lost(self, tracked: Tracked) -> None:
        self._lost[tracked.partition] = tracked
        self._lost_by_inode[tracked.key[1]].add(tracked)

    def _remove_lost(self, tracked: Tracked) -> None:
        del self._lost[tracked.partition]
        _discard(self._lost_by_inode, tracked.key[1], tracked)

    def _drop_name(self, tracked: Tracked, name: str) -> None:
        _discard(self._by_name, name, tracked)


def _names(tracked: Tracked) -> set[str]:
    return {tracked.path, tracked.born, root(tracked.path), root(tracked.born)}


def _discard(index: dict[Any, set[Tracked]], key: Any, tracked: Tracked) -> None:
    index[key].discard(tracked)
    if not index[key]:
        del index[key]
