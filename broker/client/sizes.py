"""How large rows become as Kafka records, and where to cut them into record batches. Whole columns at a
time."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tailrace.broker.wire.views import Ranges

_ROW_OVERHEAD = 14
"""Bytes a record adds to its key, body and headers, its varints at a usual length."""
_HEADER_OVERHEAD = 4

Sizes = npt.NDArray[np.int64]


def row_sizes(rows: pa.RecordBatch) -> Sizes:
    """About the bytes of each row as an uncompressed v2 record."""
    sizes = np.full(rows.num_rows, _ROW_OVERHEAD, np.int64)
    sizes += Ranges.of(rows.column("body")).sizes
    keys = rows.column("key")
    if keys.null_count < rows.num_rows:
        sizes += Ranges.of(keys).sizes
    headers = rows.column("headers")
    if headers.null_count < rows.num_rows:
        sizes += _header_sizes(headers)
    return sizes


def cuts(sizes: Sizes, limit: int) -> list[int]:
    """Where batches end, the last at len(sizes): each of them sums to `limit` at most, or is a single row."""
    ends: list[int] = []
    sums = np.cumsum(sizes)
    start = base = 0
    while start < len(sizes):
        end = max(int(np.searchsorted(sums, base + limit, side="right")), start + 1)
        ends.append(end)
        start, base = end, int(sums[end - 1])
    return ends


def _header_sizes(headers: Any) -> Sizes:
    """Bytes of all names and values of each row's headers."""
    offsets = np.asarray(headers.offsets.to_numpy(zero_copy_only=False), np.int64)
    first, last = int(offsets[0]), int(offsets[-1])
    entries = Ranges.of(headers.keys[first:last]).sizes + Ranges.of(headers.items[first:last]).sizes
    sums = np.concatenate(([0], np.cumsum(entries + _HEADER_OVERHEAD)))
    sizes: Sizes = np.diff(sums[offsets - first])
    return sizes
