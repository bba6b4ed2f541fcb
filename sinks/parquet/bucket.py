"""Sorts a batch into buckets: the directory of each row, and the dead letters with their reason."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tailrace.event import Partition
from tailrace.sinks.parquet.columns import NOT_UTF8, BodyType, Origin, as_text
from tailrace.sinks.parquet.split import NO_TIME, split, timeless
from tailrace.sinks.parquet.template import Template

_FEW = 16
"""Dead rows of a batch around which the others are cut into slices; above it a copy costs less."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Rows (never none) of one batch for one file; `directory` is below the root."""

    directory: str
    dead: bool
    rows: pa.RecordBatch
    origin: Origin


def sort(
    template: Template, body: BodyType, dead_directory: str, rows: pa.RecordBatch, partition: Partition
) -> list[Bucket]:
    """Every row in exactly one bucket, in its order. No I/O."""
    if rows.num_rows == 0:
        return []
    found = []
    reasons: list[tuple[str, np.ndarray]] = []
    text = None
    if body == "string":
        text, wrong = as_text(rows.column("body"))
        if len(wrong):
            mask = np.zeros(rows.num_rows, np.bool_)
            mask[wrong] = True
            reasons.append((NOT_UTF8, mask))
    if (without := timeless(template, rows)) is not None:
        reasons.append((NO_TIME, without))
    alive = np.ones(rows.num_rows, np.bool_)
    for reason, mask in reasons:
        dead = rows.filter(pa.array(mask & alive))
        alive &= ~mask
        if dead.num_rows:
            found.append(Bucket(dead_directory, True, dead, Origin(partition.name, partition.number, reason)))
    if text is not None:
        rows = pa.RecordBatch.from_arrays([text, *rows.columns[1:]], names=rows.schema.names)
    origin = Origin(partition.name, partition.number)
    for part in _parts(rows, alive) if reasons else [rows]:
        found += [
            Bucket(share.directory, False, share.rows, origin) for share in split(template, part, partition)
        ]
    return found


def _parts(rows: pa.RecordBatch, alive: npt.NDArray[np.bool_]) -> list[pa.RecordBatch]:
    """The rows that are alive: what stands between a few dead ones is not copied."""
    dead = np.flatnonzero(~alive)
    if len(dead) > _FEW:
        return [rows.filter(pa.array(alive))]
    starts, stops = [0, *(dead + 1).tolist()], [*dead.tolist(), rows.num_rows]
    return [
        rows.slice(start, stop - start) for start, stop in zip(starts, stops, strict=True) if start < stop
    ]
