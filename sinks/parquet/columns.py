"""The columns of a landed row, and which rows cannot land: those go to the dead letters, with the reason."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tailrace.event import HEADERS, TIMESTAMP
from tailrace.masks import places

BodyType = Literal["string", "binary"]
Kind = Literal["file", "topic", "stream"]

NOT_UTF8 = "not valid UTF-8"

_NAME = pa.dictionary(pa.int32(), pa.string())
_ORIGIN: dict[Kind, list[pa.Field]] = {
    "topic": [pa.field("topic", _NAME), pa.field("partition", pa.int32()), pa.field("offset", pa.int64())],
    "file": [pa.field("file", _NAME), pa.field("position", pa.int64())],
    "stream": [pa.field("stream", _NAME), pa.field("position", pa.int64())],
}
_BY_ROW = 64
"""So many rows are checked one by one, where halving the array further would cost more."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Schema of one kind of landed file, and how pyarrow is to write it."""

    schema: pa.Schema
    position: str
    """Name of the column that holds EventBatch's `position`."""

    @property
    def dictionary(self) -> list[str]:
        return [field.name for field in self.schema if field.type == _NAME or field.name == "partition"]

    @property
    def encodings(self) -> dict[str, str]:
        return {
            "body": "DELTA_LENGTH_BYTE_ARRAY",
            "timestamp": "DELTA_BINARY_PACKED",
            self.position: "DELTA_BINARY_PACKED",
        }

    @property
    def statistics(self) -> list[str]:
        """Columns people filter by; on long texts statistics cost more than they give."""
        return ["timestamp", self.position, *self.dictionary]


def layout(kind: Kind, body: BodyType, dead: bool) -> Layout:
    """Dead letters keep the body's bytes, and say why."""
    text = pa.binary() if dead or body == "binary" else pa.string()
    fields = [
        pa.field("body", text),
        *([pa.field("reason", _NAME)] if dead else []),
        pa.field("key", pa.binary()),
        pa.field("headers", HEADERS),
        pa.field("timestamp", TIMESTAMP),
        *_ORIGIN[kind],
    ]
    return Layout(pa.schema(fields), _ORIGIN[kind][-1].name)


def as_text(body: pa.Array) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """The bodies as pa.string(), without a copy, and the indices of rows that are not valid UTF-8 (rising).

    Where there are such rows, the array holds them as they are: filter them out before it is used.
    """
    try:
        return pc.cast(body, pa.string()), np.empty(0, np.int64)
    except pa.ArrowInvalid:
        text = body.view(pa.string())
    found: list[npt.NDArray[np.int64]] = []
    _search(body, _not_ascii(body), found)
    return text, np.concatenate(found) if found else np.empty(0, np.int64)


def _not_ascii(body: pa.Array) -> npt.NDArray[np.int64]:
    """Indices of the rows that hold a byte above 127, rising."""
    _, offsets, data = body.buffers()
    ends = np.frombuffer(offsets, np.int32)[body.offset :][: len(body) + 1]
    high = places(np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] > 127)
    rows = np.unique(np.searchsorted(ends, high + ends[0], side="right") - 1)
    return rows[body.is_valid().to_numpy(zero_copy_only=False)[rows]] if body.null_count else rows


def _search(body: pa.Array, suspects: npt.NDArray[np.int64], found: list[npt.NDArray[np.int64]]) -> None:
    """Halves the suspects until the wrong ones are few; a stack, so that hostile input costs no recursion."""
    stack = [suspects]
    while stack:
        some = stack.pop()
        rows = body.take(pa.array(some))
        try:
            pc.cast(rows, pa.string())
        except pa.ArrowInvalid:
            if len(some) <= _BY_ROW:
                found.append(some[[not _is_utf8(value) for value in rows.to_pylist()]])
            else:
                half = len(some) // 2
                stack += [some[half:], some[:half]]


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Origin:
    """What is the same for all rows of a chunk."""

    name: str
    number: int
    reason: str = ""


def row_group(layout: Layout, chunks: list[tuple[pa.RecordBatch, Origin]]) -> pa.Table:
    """The gathered chunks as one table of the layout; bodies are not copied.

    Each chunk has the columns of `tailrace.event.SCHEMA`, `body` perhaps as text already.
    """
    lengths = [rows.num_rows for rows, _ in chunks]
    columns: list[pa.ChunkedArray | pa.Array] = []
    for field in layout.schema:
        if field.name in ("topic", "file", "stream"):
            columns.append(_repeat([origin.name for _, origin in chunks], lengths))
        elif field.name == "reason":
            columns.append(_repeat([origin.reason for _, origin in chunks], lengths))
        elif field.name == "partition":
            numbers = np.array([origin.number for _, origin in chunks], np.int32)
            columns.append(pa.array(np.repeat(numbers, lengths)))
        else:
            source = "position" if field.name == layout.position else field.name
            columns.append(pa.chunked_array([_column(rows, source, field) for rows, _ in chunks], field.type))
    return pa.Table.from_arrays(columns, schema=layout.schema)


def _column(rows: pa.RecordBatch, name: str, field: pa.Field) -> pa.Array:
    column = rows.column(name)
    return column if column.type == field.type else column.view(field.type)


def _repeat(texts: list[str], lengths: list[int]) -> pa.DictionaryArray:
    distinct: dict[str, int] = {}
    numbers = np.array([distinct.setdefault(text, len(distinct)) for text in texts], np.int32)
    return pa.DictionaryArray.from_arrays(
        pa.array(np.repeat(numbers, lengths)), pa.array(list(distinct), pa.string())
    )
