"""Arrow BinaryViews made by hand: a scatter or gather of many short byte ranges in one native cast.

The views are never let out: the four prefix bytes of a long one are not filled in as the Arrow format asks;
the cast to `binary` does not look at them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tailrace.broker.wire.varint import I64, U64, Pieces

INLINE = 12
"""Bytes up to which a view holds its data itself."""

Bytes = npt.NDArray[np.uint8]
Views = npt.NDArray[np.uint64]
"""(n, 2) uint64: Arrow's 16 bytes a view."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """Bytes that are there already: data[start : start + size] for each row; `buffer` is the same bytes."""

    data: Bytes
    buffer: pa.Buffer
    starts: I64
    sizes: I64

    @classmethod
    def of(cls, array: pa.Array) -> "Ranges":
        """The values of a pa.binary() array; null ones have size 0."""
        _, offsets_buffer, data = array.buffers()
        if not len(array):
            return cls.of_bytes(b"", np.zeros(0, np.int64), np.zeros(0, np.int64))
        offsets = np.frombuffer(offsets_buffer, np.int32)[array.offset :][: len(array) + 1].astype(np.int64)
        sizes = np.diff(offsets)
        if array.null_count:
            sizes = np.where(array.is_valid().to_numpy(zero_copy_only=False), sizes, 0)
        return cls.of_bytes(b"" if data is None else data, offsets[:-1], sizes)

    @classmethod
    def of_bytes(cls, data: Any, starts: I64, sizes: I64) -> "Ranges":
        buffer = pa.py_buffer(data)
        return cls(np.frombuffer(buffer, np.uint8), buffer, starts, sizes)


def gathered(ranges: Ranges, valid: pa.Buffer | None = None) -> pa.Array:
    """The ranges as a pa.binary() array; they come to less than 2 GiB."""
    views = np.empty((len(ranges.starts), 2), np.uint64)
    _put_ranges(views, ranges, 0)
    return _cast(views, [ranges.buffer], valid)


def joined(
    columns: Sequence[Pieces | Ranges], ends: Sequence[int], *, lead: int = 0, tail: bytes = b""
) -> Bytes:
    """A scatter: row 0 of all columns, row 1, ...; at the rows where a part ends `tail` (up to 8 bytes), and
    before each part `lead` bytes to write to.

    Less than 2 GiB. The columns are of one length, the last of `ends`.
    """
    n, width = ends[-1], len(columns)
    # A lead and a tail for each part stand around its rows. The rows are put in first, where the last part has
    # them; those of the parts before move up.
    views = np.empty((n * width + 2 * len(ends), 2), np.uint64)
    buffers = [pa.py_buffer(bytes(max(lead, 1)))]
    grid = views[-1 - n * width : -1].reshape(n, width, 2)
    for place, column in enumerate(columns):
        if isinstance(column, Ranges):
            _put_ranges(grid[:, place], column, len(buffers))
            buffers.append(column.buffer)
        else:
            _put_pieces(grid[:, place], column)
    word = int.from_bytes(tail, "little")
    start, at = 0, 0
    for end in ends:
        behind = at + 1 + (end - start) * width
        views[at] = lead, 0
        if end != n:
            views[at + 1 : behind] = grid[start:end].reshape(-1, 2)
        views[behind] = len(tail) | (word & 0xFFFFFFFF) << 32, word >> 32
        start, at = end, behind + 1
    return np.frombuffer(_cast(views, buffers, None).buffers()[2], np.uint8)


def _put_pieces(out: Views, pieces: Pieces) -> None:
    np.left_shift(pieces.low, np.uint64(32), out=out[:, 0])
    out[:, 0] |= pieces.size.view(np.uint64)
    np.left_shift(pieces.high, np.uint64(32), out=out[:, 1])
    out[:, 1] |= pieces.low >> np.uint64(32)


def _put_ranges(out: Views, ranges: Ranges, buffer: int) -> None:
    out[:, 0] = ranges.sizes
    np.left_shift(ranges.starts.view(np.uint64), np.uint64(32), out=out[:, 1])
    out[:, 1] |= np.uint64(buffer)
    short = np.flatnonzero(ranges.sizes <= INLINE)
    if len(short):
        out[short] = _inline(ranges.data, ranges.starts[short], ranges.sizes[short])


def _inline(data: Bytes, starts: I64, sizes: I64) -> Views:
    raw = np.zeros((len(starts), 16), np.uint8)
    if len(data):
        steps = np.arange(INLINE)
        places = np.minimum(starts[:, None] + steps, len(data) - 1)
        raw[:, 4:] = np.where(steps < sizes[:, None], data[places], 0)
    words: U64 = raw.view("<u8")
    words[:, 0] |= sizes.view(np.uint64)
    return words


def _cast(views: Views, buffers: Sequence[pa.Buffer], valid: pa.Buffer | None) -> pa.Array:
    array = pa.Array.from_buffers(pa.binary_view(), len(views), [valid, pa.py_buffer(views), *buffers])
    return array.cast(pa.binary())
