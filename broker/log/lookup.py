"""From an offset or a time to a place in the segments: binary search over segments, then over an index, then a scan."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tailrace.broker.log import scan
from tailrace.broker.log.files import FileRange
from tailrace.broker.log.segment import Segment, View
from tailrace.broker.wire.batch import BatchHeader
from tailrace.broker.wire.reference import decode_simple


@dataclass(frozen=True, slots=True)
class Found:
    """A range to send, and the segment that holds it."""

    range: FileRange
    segment: Segment


def range_from(
    segments: Sequence[Segment],
    offset: int,
    max_bytes: int,
    upto: int,
    known: tuple[Segment, int] | None,
    view_of: Callable[[Segment], View],
) -> Found | None:
    """Whole batches of one segment, from the one that holds `offset`, all below `upto`; None when there is none.

    known   (segment, position) where an earlier range ended exactly at `offset`
    """
    if offset >= upto:
        return None
    i = max(0, bisect_right(segments, offset, key=lambda segment: segment.base) - 1)
    while i < len(segments) and segments[i].base < upto:
        segment = segments[i]
        view, size = view_of(segment), segment.size
        last = i + 1 == len(segments) or segments[i + 1].base >= upto
        if known is not None and known[0] is segment and known[1] < size:
            start = known[1]
        else:
            first = _find(view, size, offset)
            if first is None:
                i += 1
                continue
            start = first[0]
        end = _end_below(view, size, upto) if last else size
        if end <= start:
            return None
        length = _whole(view, start, end, max_bytes)
        more = not last or start + length < end
        return Found(FileRange(view.file, start, length, more), segment)
    return None


def _find(view: View, size: int, offset: int) -> tuple[int, BatchHeader] | None:
    """(position, header) of the first batch in the first `size` bytes that ends at or after `offset`."""
    start = view.offsets.at_or_before(offset)
    for position, header in scan.headers(view.file.fd, start, size, scan.NEAR):
        if header.last_offset >= offset:
            return position, header
    return None


def _end_below(view: View, size: int, upto: int) -> int:
    """Where the batches end of which every offset is below `upto`."""
    found = _find(view, size, upto)
    return size if found is None else found[0]


def _whole(view: View, start: int, end: int, max_bytes: int) -> int:
    """Length of the whole batches from `start`, at most `max_bytes`, but one at the least."""
    if end - start <= max_bytes:
        return end - start
    limit = start + max_bytes
    position = max(start, view.offsets.boundary(limit))
    for at, header in scan.headers(view.file.fd, position, limit, scan.NEAR):
        position = at + header.size
    if position > start:
        return position - start
    _, first = next(scan.headers(view.file.fd, start, end, scan.NEAR))
    return first.size


def bytes_from(segments: Sequence[Segment], offset: int, view_of: Callable[[Segment], View]) -> int:
    """Bytes of the batches that hold `offset` or come after it."""
    total = 0
    for segment in reversed(segments):
        if segment.base <= offset:
            size = segment.size
            found = _find(view_of(segment), size, offset)
            return total + (size - found[0] if found is not None else 0)
        total += segment.size
    return total


def first_at_or_after(
    segments: Sequence[Segment], timestamp: int, log_start: int, view_of: Callable[[Segment], View]
) -> tuple[int, int] | None:
    """(timestamp, offset) of the first record from `log_start` on that is as late as `timestamp` (ms)."""
    for segment in segments:
        if segment.max_timestamp < timestamp or not segment.size:
            continue
        view = view_of(segment)
        start = view.offsets.at_or_before(max(view.times.before(timestamp), log_start) - 1)
        for position, header in scan.headers(view.file.fd, start, segment.size):
            if header.max_timestamp < timestamp or header.is_control or header.last_offset < log_start:
                continue
            found = _in_batch(view, position, header, timestamp, log_start)
            if found is not None:
                return found
    return None


def _in_batch(
    view: View, position: int, header: BatchHeader, timestamp: int, log_start: int
) -> tuple[int, int] | None:
    if header.log_append_time:
        return header.max_timestamp, max(header.base_offset, log_start)
    for record in decode_simple(view.file.read_at(position, header.size)):
        if record.timestamp >= timestamp and record.offset >= log_start:
            return record.timestamp, record.offset
    return None
