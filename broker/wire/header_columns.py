"""The headers of many records as one Arrow map column: one block for all where they are the same, else the
k-th header of every record at once.
"""

import numpy as np
import pyarrow as pa

from tailrace.broker.wire.reference import decode_headers, read_varint
from tailrace.broker.wire.varint import I64, Loads
from tailrace.broker.wire.views import Bytes, Ranges, gathered
from tailrace.errors import Corrupt
from tailrace.event import HEADERS

_LONGEST_BLOCK = 1024
_FEW = 64
"""Records with another header below which a loop over them is quicker than the vectors."""


def header_column(
    arena: Bytes, buffer: pa.Buffer, loads: Loads, counts: I64, at: I64, ends: I64
) -> pa.Array | None:
    """The map column, null where a record has no header; None when none has. `at` is behind the header count.

    Corrupt unless each record's headers end where the record ends. A name that is not UTF-8 is read with
    replacement characters.
    """
    if int(counts.min()) < 0 or bool((counts > ends - at).any()):
        raise Corrupt("a record with a number of headers that cannot be")
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    if int(offsets[-1]) >= 2**31:
        raise Corrupt(f"a fetch of {offsets[-1]} headers")
    if _are_same(arena, counts, at, ends):
        entries = _repeated(arena, counts, int(at[0]), int(ends[0]))
    else:
        names, values = _places(arena, loads, counts, offsets, at, ends)
        entries = _entries(arena, buffer, names, values)
    if not int(offsets[-1]):
        return None
    valid = pa.array(counts > 0).buffers()[1]
    return pa.Array.from_buffers(
        HEADERS, len(counts), [valid, pa.py_buffer(offsets.astype(np.int32))], children=[entries]
    )


def _are_same(arena: Bytes, counts: I64, at: I64, ends: I64) -> bool:
    size = int(ends[0] - at[0])
    if not 0 < size <= _LONGEST_BLOCK or counts[0] == 0:
        return False
    if bool((counts != counts[0]).any()) or bool((ends - at != size).any()):
        return False
    first = arena[at[0] : ends[0]]
    if bool((arena[at[-1] : ends[-1]] != first).any()):
        return False
    blocks = np.lib.stride_tricks.sliding_window_view(arena, size)[at]
    return bool((blocks == first).all())


def _repeated(arena: Bytes, counts: I64, at: int, end: int) -> pa.StructArray:
    headers = decode_headers(arena.data, at, end, int(counts[0]))
    every = np.tile(np.arange(len(headers)), len(counts))
    names = pa.array([name for name, _ in headers], pa.string()).take(pa.array(every))
    values = pa.array([value for _, value in headers], pa.binary()).take(pa.array(every))
    return _struct(names, values)


def _places(arena: Bytes, loads: Loads, counts: I64, offsets: I64, at: I64, ends: I64) -> tuple[I64, I64]:
    """Where each header's name and value is: two rows each, starts and sizes (-1: null)."""
    names, values = (np.empty((2, int(offsets[-1])), np.int64) for _ in range(2))
    at = at.copy()
    rows = np.flatnonzero(counts)
    number = 0
    while len(rows) >= _FEW:
        places = offsets[rows] + number
        for field in (names, values):
            size, begin = loads.varints(at[rows], ends[rows])
            behind = begin + np.maximum(size, 0)
            if int(size.min()) < -1 or bool((behind > ends[rows]).any()):
                raise Corrupt("a record's header reaches behind the record")
            field[0, places], field[1, places] = begin, size
            at[rows] = behind
        number += 1
        rows = rows[counts[rows] > number]
    for row in rows.tolist():
        at[row] = _walk(
            arena.data,
            int(at[row]),
            int(ends[row]),
            range(offsets[row] + number, offsets[row + 1]),
            names,
            values,
        )
    if bool((at != ends).any()):
        raise Corrupt("bytes behind the headers of a record")
    if len(names[1]) and int(names[1].min()) < 0:
        raise Corrupt("a record header without a name")
    return names, values


def _walk(buf: memoryview, at: int, end: int, places: range, names: I64, values: I64) -> int:
    """Puts the headers of one record into their places; answers the byte behind them."""
    for place in places:
        for field in (names, values):
            size, at = read_varint(buf, at, end)
            if size < -1 or at + max(size, 0) > end:
                raise Corrupt("a record's header reaches behind the record")
            field[:, place] = at, size
            at += max(size, 0)
    return at


def _entries(arena: Bytes, buffer: pa.Buffer, names: I64, values: I64) -> pa.StructArray:
    valid = pa.array(values[1] >= 0).buffers()[1]
    value_ranges = Ranges(arena, buffer, values[0], np.maximum(values[1], 0))
    return _struct(
        _as_text(gathered(Ranges(arena, buffer, names[0], names[1]))), gathered(value_ranges, valid)
    )


def _struct(names: pa.Array, values: pa.Array) -> pa.StructArray:
    return pa.StructArray.from_arrays([names, values], fields=[HEADERS.key_field, HEADERS.item_field])


def _as_text(names: pa.Array) -> pa.Array:
    try:
        return names.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([name.decode(errors="replace") for name in names.to_pylist()], pa.string())
