"""The segments of one log as a list that readers search without the lock while others roll, delete and compact."""

import errno
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from threading import RLock
from typing import TypeVar

from tailrace.broker.log.names import CLEANED, INDEX, LOG, SEGMENT_SUFFIXES, SNAPSHOT, SWAP, TIME_INDEX
from tailrace.broker.log.recovery import finish_swap
from tailrace.broker.log.segment import Segment, View, Views
from tailrace.failpoint import failpoint
from tailrace.fs import FileSystem, write_atomically

_TRIES = 10
_T = TypeVar("_T")


class Segments:
    """Rising by base, the last one active. The list is exchanged, never changed; `lock` is the log's own.

    all   the segments now
    size  bytes in all of them
    """

    def __init__(
        self, directory: str, found: Sequence[Segment], fs: FileSystem, views: Views, lock: RLock
    ) -> None:
        self._directory = directory
        self._fs = fs
        self._views = views
        self._lock = lock
        self._generation = 0
        self._abandoned = False
        self.all = tuple(found)
        self.size = sum(segment.size for segment in found)

    @property
    def active(self) -> Segment:
        return self.all[-1]

    @property
    def bases(self) -> list[int]:
        return [segment.base for segment in self.all]

    def since(self, offset: int) -> Sequence[Segment]:
        """From the segment that holds `offset` on."""
        found = self.all
        return found[max(0, bisect_right(found, offset, key=lambda segment: segment.base) - 1) :]

    def add(self, fresh: Segment) -> None:
        """A new active segment."""
        with self._lock:
            self._exchange([*self.all, fresh])

    def search(self, look: Callable[[Sequence[Segment]], _T]) -> _T:
        """Looks into files without the lock, and again when they were deleted or exchanged meanwhile."""
        for _ in range(_TRIES):
            with self._lock:
                found, generation = self.all, self._generation
            try:
                answer = look(found)
            except FileNotFoundError:
                continue
            if generation == self._generation:
                return answer
        raise OSError(errno.EBUSY, f"{self._directory}: segments keep being exchanged; read again")

    def view(self, segment: Segment, interval: int) -> View:
        return self._views.get(segment, interval)

    def unlink(self, going: Sequence[Segment]) -> None:
        """Forgets the oldest segments and deletes their files, each .log first; readers keep what they hold open.

        Not durable: what comes back after a power cut lies below the log start, and goes another time.
        """
        with self._lock:
            self._exchange([segment for segment in self.all if segment not in going])
        for segment in going:
            self._views.drop(segment)
            with self._lock:
                if self._abandoned:
                    return
                for suffix in (*SEGMENT_SUFFIXES, SNAPSHOT):
                    if os.path.exists(segment.path(suffix)):
                        self._fs.unlink(segment.path(suffix))
                        failpoint("log.delete_unlinked")

    def swap(self, group: Sequence[Segment], fresh: Segment) -> None:
        """Puts a rewritten segment in the place of those it was made from: after any crash it is all or nothing."""
        with self._lock:
            if self._abandoned:
                return
            self._fs.rename(fresh.path(LOG) + CLEANED, fresh.path(LOG) + SWAP)
            failpoint("log.compact_swappable")
            self._fs.fsync_dir(self._directory)
            self._generation += 1
            finish_swap(self._directory, self._fs, fresh.base)
            assert fresh.view is not None
            fresh.view.times.offer(fresh.max_timestamp, fresh.max_timestamp_offset)
            write_atomically(self._fs, fresh.path(INDEX), bytes(fresh.view.offsets.data))
            write_atomically(self._fs, fresh.path(TIME_INDEX), bytes(fresh.view.times.data))
            fresh.view = None
            at = self.all.index(group[0])
            self._exchange([*self.all[:at], fresh, *self.all[at + len(group) :]])
        for segment in group:
            self._views.drop(segment)

    def abandon(self) -> None:
        """Closes the files, once no reader holds them, and touches the directory no more: it may be another's soon."""
        self._abandoned = True
        for segment in self.all:
            self._views.drop(segment)
            segment.view = None

    def _exchange(self, segments: Sequence[Segment]) -> None:
        self.all = tuple(segments)
        self.size = sum(segment.size for segment in segments)
