"""The headers of many records as one Arrow map column: the k-th header of all records that have one, at
once.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tailrace.broker.wire import views
from tailrace.broker.wire.varint import I64, Loads
from tailrace.errors import Corrupt
from tailrace.event import HEADERS


def header_column(
    arena: npt.NDArray[np.uint8], buffer: pa.Buffer, loads: Loads, counts: I64, at: I64, ends: I64
) -> pa.Array | None:
    """The map column, null where a record has no header; None when none has. `at` is behind the header count.

    Corrupt unless each record's headers end where the record ends. A name that is not UTF-8 is read with
    replacement characters.
    """
    if int(counts.min()) < 0 or bool((counts > ends - at).any()):
        raise Corrupt("a record with a number of headers that cannot be")
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    total = int(offsets[-1])
    if total >= 2**31:
        raise Corrupt(f"a fetch of {total} headers")
    names, values = (np.empty((2, total), np.int64) for _ in range(2))
    at = at.copy()
    rows = np.flatnonzero(counts)
    number = 0
    while len(rows):
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
    if bool((at != ends).any()):
        raise Corrupt("bytes behind the headers of a record")
    if not total:
        return None
    if int(names[1].min()) < 0:
        raise Corrupt("a record header without a name")
    return pa.Array.from_buffers(
        HEADERS,
        len(counts),
        [pa.array(counts > 0).buffers()[1], pa.py_buffer(offsets.astype(np.int32))],
        children=[_entries(arena, buffer, names, values)],
    )


def _entries(arena: npt.NDArray[np.uint8], buffer: pa.Buffer, names: I64, values: I64) -> pa.StructArray:
    valid = pa.array(values[1] >= 0).buffers()[1]
    name_bytes = views.cast_to_binary(views.of_ranges(arena, names[0], names[1], 0), [buffer])
    value_views = views.of_ranges(arena, values[0], np.maximum(values[1], 0), 0)
    fields = [HEADERS.key_field, HEADERS.item_field]
    return pa.StructArray.from_arrays(
        [_as_text(name_bytes), views.cast_to_binary(value_views, [buffer], valid)], fields=fields
    )


def _as_text(names: pa.Array) -> pa.Array:
    try:
        return names.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([name.decode(errors="replace") for name in names.to_pylist()], pa.string())
