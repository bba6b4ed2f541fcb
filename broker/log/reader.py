"""Reads of one log: ranges to send, the aborted list beside them, offsets by time. No lock while files are searched."""

from collections.abc import Callable, Sequence
from threading import Lock

from tailrace.broker.log.files import FileRange
from tailrace.broker.log.lookup import Found, bytes_from, first_at_or_after, range_from
from tailrace.broker.log.segment import Segment, View
from tailrace.broker.log.segments import Segments
from tailrace.broker.wire.batch import AbortedTxn

_REMEMBERED = 16


class Reader:
    """Any thread. It remembers where ranges ended, so that who follows the log's end need not search."""

    def __init__(self, segments: Segments, view: Callable[[Segment], View]) -> None:
        self._segments = segments
        self._view = view
        self._lock = Lock()
        self._ends: dict[int, tuple[Segment, int]] = {}

    def range(self, offset: int, max_bytes: int, upto: int) -> FileRange | None:
        """As PartitionLog.read, for an offset that is in the log and an `upto` not beyond its end."""
        known = self._ends.get(offset)

        def search(segments: Sequence[Segment]) -> Found | None:
            return range_from(segments, offset, max_bytes, upto, known, self._view)

        found = self._segments.search(search)
        if found is None:
            return None
        if not found.range.more:
            with self._lock:
                while len(self._ends) >= _REMEMBERED:
                    del self._ends[next(iter(self._ends))]
                self._ends[upto] = (found.segment, found.range.position + found.range.length)
        return found.range

    def bytes_from(self, offset: int) -> int:
        return self._segments.search(lambda segments: bytes_from(segments, offset, self._view))

    def aborted(self, start: int, end: int) -> Sequence[AbortedTxn]:
        found = []
        for segment in self._segments.since(start):
            for entry in tuple(segment.aborted):
                if entry.last_offset >= start and entry.first_offset < end:
                    found.append(AbortedTxn(entry.producer_id, entry.first_offset))
                if entry.last_stable >= end:
                    return found
        return found

    def at_time(self, timestamp: int, log_start: int) -> tuple[int, int] | None:
        return self._segments.search(
            lambda segments: first_at_or_after(segments, timestamp, log_start, self._view)
        )
