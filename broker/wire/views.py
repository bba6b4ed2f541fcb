"""Arrow BinaryViews made by hand: a scatter or gather of many short byte ranges in one native cast.

The views are never let out: the four prefix bytes of a long one are not filled in as the Arrow format
asks, which the
cast to `binary` does not look at.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tailrace.broker.wire.varint import I64, U64, Pieces

INLINE = 12
"""Bytes up to which a view holds its data itself."""

Views = npt.NDArray[np.uint64]
"""(n, 2) uint64: Arrow's 16 bytes a view."""


def of_pieces(pieces: Pieces) -> Views:
    views = np.empty((len(pieces.size), 2), np.uint64)
    views[:, 0] = pieces.size.view(np.uint64) | (pieces.low << np.uint64(32))
    views[:, 1] = (pieces.low >> np.uint64(32)) | (pieces.high << np.uint64(32))
    return views


def of_ranges(data: npt.NDArray[np.uint8], starts: I64, sizes: I64, buffer: int) -> Views:
    """Views of data[start : start + size], where `data` is the cast's buffer number `buffer`."""
    views = np.empty((len(starts), 2), np.uint64)
    views[:, 0] = sizes.view(np.uint64)
    views[:, 1] = (starts.view(np.uint64) << np.uint64(32)) | np.uint64(buffer)
    short = np.flatnonzero(sizes <= INLINE)
    if len(short):
        views[short] = _inline(data, starts[short], sizes[short])
    return views


def _inline(data: npt.NDArray[np.uint8], starts: I64, sizes: I64) -> Views:
    raw = np.zeros((len(starts), 16), np.uint8)
    if len(data):
        steps = np.arange(INLINE)
        places = np.minimum(starts[:, None] + steps, len(data) - 1)
        raw[:, 4:] = np.where(steps < sizes[:, None], data[places], 0)
    words: U64 = raw.view("<u8")
    words[:, 0] |= sizes.view(np.uint64)
    return words


def cast_to_binary(views: Views, buffers: Sequence[pa.Buffer], valid: pa.Buffer | None = None) -> pa.Array:
    """A pa.binary() array; its data buffer is the views' bytes one behind the other, under 2 GiB."""
    array = pa.Array.from_buffers(
        pa.binary_view(), len(views), [valid, pa.py_buffer(np.ascontiguousarray(views)), *buffers]
    )
    return array.cast(pa.binary())


def joined(columns: Sequence[Views], buffers: Sequence[pa.Buffer], tail: bytes = b"") -> memoryview:
    """The bytes of row 0's views in column order, then row 1's, ..., then `tail` (at most 8 bytes): a
    scatter.
    """
    n = len(columns[0])
    views = np.empty((n * len(columns) + 1, 2), np.uint64)
    grid = views[:-1].reshape(n, len(columns), 2)
    for place, column in enumerate(columns):
        grid[:, place] = column
    word = int.from_bytes(tail, "little")
    views[-1] = len(tail) | (word & 0xFFFFFFFF) << 32, word >> 32
    data = cast_to_binary(views, buffers).buffers()[2]
    return memoryview(data) if data is not None else memoryview(b"")


def ranges_of(array: pa.Array) -> tuple[npt.NDArray[np.uint8], pa.Buffer, I64, I64]:
    """(bytes, the same as a buffer, start and size of each value) of a pa.binary() array; null values
    have size 0.
    """
    _, offsets_buffer, data = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[array.offset : array.offset + len(array) + 1].astype(
        np.int64
    )
    sizes = np.diff(offsets)
    if array.null_count:
        sizes = np.where(array.is_valid().to_numpy(zero_copy_only=False), sizes, 0)
    if data is None:
        data = pa.py_buffer(b"")
    return np.frombuffer(data, np.uint8), data, offsets[:-1], sizes
