"""Splits a chunk of a file into lines, all at once: numpy finds the ends, pyarrow copies the bodies out.

What comes out does not depend on how the bytes were cut into chunks. A line ends with `\\n`; one `\\r` right
before it belongs to the end. A line longer than max_line is split into parts of max_line bytes and a rest.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tailrace.masks import places

MAX_ROWS = 65_536
"""Lines of one call at the most, so that a chunk of nothing but line ends does not make a giant batch."""

_LF, _CR = 10, 13


@dataclass(frozen=True, slots=True)
class Lines:
    """The rows of a chunk.

    body      pa.binary() of n rows without their line ends; owns its memory
    starts    n offsets in the chunk where the rows begin, rising
    parts     None when every row is a whole line; else n numbers: 0, 1, 2, ... for the parts of a split
              line, -1 for whole lines
    consumed  bytes of the chunk that are done with, line ends included
    part      number of the part that comes next: 0 when `consumed` is at the start of a line
    """

    body: pa.BinaryArray
    starts: npt.NDArray[np.int64]
    parts: npt.NDArray[np.int32] | None
    consumed: int
    part: int


def split_lines(chunk: npt.NDArray[np.uint8], *, max_line: int, part: int = 0, last: bool = False) -> Lines:
    """Lines of `chunk`; the first goes on with part number `part` of a line already begun (0: a new line).

    What follows the last `\\n` is left for the next call, unless it is longer than a line may be, or `last`
    is true: then it is a row as well, and `part` of the answer is above 0. When the rest of a line already
    begun is empty it makes no row. The chunk may be reused afterwards.
    """
    ends = places(chunk == _LF)
    if len(ends) > MAX_ROWS:
        ends = ends[:MAX_ROWS]
        chunk, last = chunk[: ends[-1] + 1], False
    starts = np.empty(len(ends), np.int64)
    if len(ends):
        starts[0] = 0
        np.add(ends[:-1], 1, out=starts[1:])
    consumed = int(ends[-1]) + 1 if len(ends) else 0
    stops = ends - ((ends > starts) & (chunk[ends - 1] == _CR))
    rest = _rows_of_rest(len(chunk) - consumed, max_line, last)
    if rest == 0 and part == 0 and (not len(ends) or int(np.max(stops - starts)) <= max_line):
        return Lines(_gather(chunk, starts, stops), starts, None, consumed, 0)
    if rest:
        stop = len(chunk) if last else consumed + rest * max_line
        starts, stops = np.append(starts, consumed), np.append(stops, stop)
        consumed = stop
    lines = _Cut(starts, stops, is_open=rest > 0, is_whole=last and rest == 1)
    return _with_parts(chunk, lines, consumed, max_line=max_line, part=part)


def _rows_of_rest(length: int, max_line: int, last: bool) -> int:
    """Rows that can already be made of `length` bytes without a line end.

    Two bytes more than a row are waited for: `\\r\\n` could be next, and would not count as part of the line.
    """
    if last:
        return -(-length // max_line)
    return max(0, (length - 2) // max_line)


@dataclass(frozen=True, slots=True)
class _Cut:
    """Lines [starts, stops) of a chunk. The last one is open when its end has not come yet; it may still be whole."""

    starts: npt.NDArray[np.int64]
    stops: npt.NDArray[np.int64]
    is_open: bool
    is_whole: bool


def _with_parts(
    chunk: npt.NDArray[np.uint8], lines: _Cut, consumed: int, *, max_line: int, part: int
) -> Lines:
    """The general way: the first line was begun before when part > 0, and long lines are split."""
    starts, stops = lines.starts, lines.stops
    if not len(starts):
        return Lines(_gather(chunk, starts, stops), starts, None, consumed, part)
    counts = np.maximum(-(-(stops - starts) // max_line), 1)
    is_split = counts > 1
    is_split[-1] |= lines.is_open and not lines.is_whole
    first = np.zeros(len(starts), np.int64)
    if part > 0:
        first[0] = part
        is_split[0] = True
        counts[0] *= stops[0] > starts[0]
    index = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    row_starts = np.repeat(starts, counts) + index * max_line
    row_stops = np.minimum(row_starts + max_line, np.repeat(stops, counts))
    parts = np.where(np.repeat(is_split, counts), index + np.repeat(first, counts), -1).astype(np.int32)
    next_part = int(first[-1] + counts[-1]) if lines.is_open else 0
    body = _gather(chunk, row_starts, row_stops)
    return Lines(body, row_starts, parts if (parts >= 0).any() else None, consumed, next_part)


def _gather(
    chunk: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]
) -> pa.BinaryArray:
    """Copies the bytes [starts, stops) out: rows and gaps become one array, of which the rows are taken."""
    n = len(starts)
    if n == 0:
        return pa.array([], pa.binary())
    offsets = np.empty(2 * n, np.int32)
    offsets[0::2] = starts
    offsets[1::2] = stops
    both = pa.BinaryArray.from_buffers(
        pa.binary(), 2 * n - 1, [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(chunk))]
    )
    return both.take(pa.array(np.arange(0, 2 * n - 1, 2, dtype=np.int32)))
