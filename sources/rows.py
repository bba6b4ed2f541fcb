"""Rows of a file: the columns that a file source adds to the lines of a chunk."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tailrace.event import HEADERS, make_rows
from tailrace.sources.lines import Lines

PART_HEADER = "tailrace.part"
"""On the parts of a line that was split: 0, 1, 2, ... as decimal text. A part above 0 continues the row before it."""


@dataclass(frozen=True, slots=True)
class HeaderRules:
    """Which headers the rows of a file have."""

    constant: Mapping[str, str] = field(default_factory=dict)
    file: bool = False
    basename: bool = False
    offset: bool = False


def file_rows(lines: Lines, base: int, timestamp: int, path: str, rules: HeaderRules) -> pa.RecordBatch:
    """Rows of a chunk that begins at byte `base` of the file.

    timestamp  ms since the epoch, UTC: when the chunk was read
    path       name of the file, for the headers that want it
    """
    positions = lines.starts + base
    n = len(positions)
    constant = {name: value.encode() for name, value in rules.constant.items()}
    if rules.file:
        constant["file"] = os.fsencode(path)
    if rules.basename:
        constant["basename"] = os.fsencode(os.path.basename(path))
    columns = [(name, pa.repeat(pa.scalar(value, pa.binary()), n)) for name, value in constant.items()]
    if rules.offset:
        columns.append(("offset", _decimal(positions)))
    every_row = np.ones(n, bool)
    cells = [(name, values, every_row) for name, values in columns]
    if lines.parts is not None:
        cells.append((PART_HEADER, _decimal(lines.parts), lines.parts >= 0))
    headers = _map_column(n, cells) if cells else None
    return make_rows(lines.body, positions, timestamp, headers=headers)


def _decimal(numbers: npt.NDArray[np.signedinteger]) -> pa.Array:
    return pc.cast(pc.cast(pa.array(numbers), pa.string()), pa.binary())


def _map_column(n: int, cells: list[tuple[str, pa.Array, npt.NDArray[np.bool_]]]) -> pa.Array:
    """A column of maps from header columns: for each its name, n values, and which of the rows have it.

    A row without any header is null.
    """
    present = np.stack([has for _, _, has in cells], axis=1)
    values = pa.concat_arrays([values for _, values, _ in cells])
    names = pa.array([name for name, _, _ in cells], pa.string())
    rows, columns = np.nonzero(present)
    counts = present.sum(axis=1)
    offsets = np.zeros(n + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    return pa.MapArray.from_arrays(
        pa.array(offsets),
        names.take(pa.array(columns)),
        values.take(pa.array(columns * n + rows)),
        type=HEADERS,
        mask=pa.array(counts == 0),
    )
