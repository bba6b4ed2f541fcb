"""Which row goes to which directory, worked out for a whole batch at a time.

In the common case (one hour, the same headers) this costs a minimum and a maximum, and no row is copied.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tailrace.event import Partition
from tailrace.sinks.parquet.template import LAST_MS, Template, escape

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NO_TIME = "no timestamp that the path could be made of (before 1970, after 9999, or none)"


@dataclass(frozen=True, slots=True)
class Share:
    """Rows of one batch that go to one directory, in their order."""

    directory: str
    rows: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class _Coded:
    """One input of the path: a number a row, and what each number stands for."""

    codes: Ints
    """int64[rows], each an index of `texts` or, for time, a count of steps since 1970."""
    texts: list[str] | None


def timeless(template: Template, rows: pa.RecordBatch) -> Mask | None:
    """bool[rows], true where the path needs a time and the row has none; None when all rows have one."""
    if template.step_ms is None or rows.num_rows == 0:
        return None
    stamps = rows.column("timestamp")
    values = _milliseconds(stamps)
    if stamps.null_count == 0 and values.min() >= 0 and values.max() <= LAST_MS:
        return None
    wrong = (values < 0) | (values > LAST_MS)
    if stamps.null_count:
        wrong |= stamps.is_null().to_numpy(zero_copy_only=False)
    return wrong if wrong.any() else None


def split(template: Template, rows: pa.RecordBatch, partition: Partition) -> Iterator[Share]:
    """Every row in exactly one share; none of them may be `timeless`. The directories differ."""
    if rows.num_rows == 0:
        return
    fixed: dict[str, str] = {}
    coded: dict[str | None, _Coded] = {}
    for name in template.values:
        texts = _value(name, rows, partition)
        if isinstance(texts, str):
            fixed[name] = texts
        else:
            coded[name] = texts
    ms = 0
    if template.step_ms is not None:
        values = _milliseconds(rows.column("timestamp"))
        first, last = int(values.min()) // template.step_ms, int(values.max()) // template.step_ms
        ms = first * template.step_ms
        if first != last:
            coded[None] = _Coded(values // template.step_ms, None)
    if not coded:
        yield Share(template.directory(ms, fixed), rows)
        return
    yield from _spread(template, rows, ms, fixed, coded)


def _spread(
    template: Template, rows: pa.RecordBatch, ms: int, fixed: dict[str, str], coded: dict[str | None, _Coded]
) -> Iterator[Share]:
    """The general case: numbers for each distinct combination, then one sort."""
    combined = np.zeros(rows.num_rows, np.int64)
    for column in coded.values():
        distinct, inverse = np.unique(column.codes, return_inverse=True)
        combined = combined * len(distinct) + inverse
        combined = np.unique(combined, return_inverse=True)[1]  # keeps the product small
    _, examples, inverse = np.unique(combined, return_index=True, return_inverse=True)
    directories: dict[str, int] = {}
    numbers = np.empty(len(examples), np.int64)
    for at, row in enumerate(examples):
        values = dict(fixed)
        moment = ms
        for name, column in coded.items():
            code = int(column.codes[row])
            if name is None:
                moment = code * (template.step_ms or 1)
            elif column.texts is not None:
                values[name] = column.texts[code]
        directory = template.directory(moment, values)
        numbers[at] = directories.setdefault(directory, len(directories))
    of_row = numbers[inverse]
    order = np.argsort(of_row, kind="stable")
    ends = np.cumsum(np.bincount(of_row, minlength=len(directories)))
    start = 0
    for directory, end in zip(directories, ends, strict=True):
        yield Share(directory, _take(rows, order[start:end]))
        start = int(end)


def _take(rows: pa.RecordBatch, indices: Ints) -> pa.RecordBatch:
    """A slice where the rows lie side by side (time moves on within a batch), else a copy."""
    first, last = int(indices[0]), int(indices[-1])
    if last - first + 1 == len(indices):
        return rows.slice(first, len(indices))
    return rows.take(pa.array(indices))


def _value(name: str, rows: pa.RecordBatch, partition: Partition) -> str | _Coded:
    """A text when it is the same for all rows."""
    if partition.kind == "topic" and name in ("topic", "partition"):
        return escape((partition.name if name == "topic" else str(partition.number)).encode())
    headers = rows.column("headers")
    if headers.null_count == len(headers):
        return escape(None)
    found = pc.map_lookup(headers, name, "first").dictionary_encode()
    texts = [escape(value) for value in found.dictionary.to_pylist()]
    if found.null_count == len(found):
        return escape(None)
    if found.null_count == 0 and len(texts) == 1:
        return texts[0]
    codes = pc.fill_null(found.indices, len(texts)).to_numpy(zero_copy_only=False).astype(np.int64)
    return _Coded(codes, [*texts, escape(None)])


def _milliseconds(stamps: pa.Array) -> Ints:
    """int64[rows] without a copy; what stands at a null means nothing."""
    buffer = stamps.buffers()[1]
    if buffer is None:
        return np.zeros(len(stamps), np.int64)
    return np.frombuffer(buffer, np.int64)[stamps.offset : stamps.offset + len(stamps)]
