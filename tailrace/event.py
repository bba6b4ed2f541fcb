"""The unit that travels: a batch of rows as Arrow columns, with the origin of every row.

Nothing in Tailrace handles rows one by one on a hot path; sources make EventBatches and everything
passes them on.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

HEADERS = pa.map_(pa.string(), pa.binary())
TIMESTAMP = pa.timestamp("ms", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("body", pa.binary()),
        pa.field("key", pa.binary()),
        pa.field("headers", HEADERS),
        pa.field("timestamp", TIMESTAMP),
        pa.field("position", pa.int64(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One independently ordered stream of rows; its identity, never its name alone.

    kind    id                                         number      name
    file    uuid4 hex, made when first seen            0           path when last seen
    topic   topic id as hex, `<cluster>:<topic>`       partition   topic
            where the cluster has no topic ids
    stream  uuid4 hex of a durable channel or          0           component name
            of a generating source

    `name` is for people and paths; two partitions are the same when kind, id and number are.
    """

    kind: Literal["file", "topic", "stream"]
    id: str
    number: int = 0
    name: str = field(default="", compare=False)

    @property
    def key(self) -> str:
        """A stable text form, for stores that need one: `kind/id/number`."""
        return f"{self.kind}/{self.id}/{self.number}"


@dataclass(frozen=True, slots=True)
class Record:
    """What a sink has stored for a partition: the next position to read, and the source's own state there.

    `state` is opaque to everything but the source that made it.
    """

    position: int
    state: bytes | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Positions [start, end) that a batch covers, whether or not a row is left in them."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Rows of one partition in position order, and the span they cover.

    rows        pa.RecordBatch of SCHEMA; may have 0 rows, and still moves the position to span.end
    partition   where the rows come from
    span        [start, end): start <= each position < end; batches of a partition follow without a gap
    state       the source's state at span.end, stored by the sink beside span.end
    assignment  number of the assignment under which it was read; a sink's driver drops old numbers
    gap         the rows of this span are gone at the source (retention) and the user said to go on; no rows,
                and a sink that keeps ranges records it as a gap
    """

    rows: pa.RecordBatch
    partition: Partition
    span: Span
    state: bytes | None = None
    assignment: int = 0
    gap: bool = False

    @property
    def num_rows(self) -> int:
        return int(self.rows.num_rows)

    @property
    def nbytes(self) -> int:
        """Bytes of column data, as channels and memory budgets count them."""
        return int(self.rows.nbytes)

    def with_assignment(self, assignment: int) -> "EventBatch":
        return replace(self, assignment=assignment)

    def since(self, position: int) -> "EventBatch | None":
        """The part at or after `position`; None when the whole span lies before it."""
        if self.span.end <= position:
            return None
        if self.span.start >= position:
            return self
        positions = self.rows.column("position").to_numpy()
        first = int(np.searchsorted(positions, position, side="left"))
        return replace(self, rows=self.rows.slice(first), span=Span(position, self.span.end))


def make_rows(
    body: pa.Array,
    position: pa.Array | npt.NDArray[np.int64],
    timestamp: pa.Array | int,
    *,
    key: pa.Array | None = None,
    headers: pa.Array | None = None,
) -> pa.RecordBatch:
    """Columns of SCHEMA from what a source has.

    body       pa.binary() array of n rows
    position   n int64, rising
    timestamp  n values of TIMESTAMP, or one int (ms since the epoch, UTC) for all rows
    """
    n = len(body)
    if isinstance(timestamp, int):
        timestamp = constant_timestamp(timestamp, n)
    columns = [
        body,
        key if key is not None else pa.nulls(n, pa.binary()),
        headers if headers is not None else pa.nulls(n, HEADERS),
        timestamp,
        pa.array(position, pa.int64()) if isinstance(position, np.ndarray) else position,
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def constant_timestamp(ms: int, n: int) -> pa.Array:
    """n times the same moment (ms since the epoch, UTC)."""
    return pa.Array.from_buffers(TIMESTAMP, n, [None, pa.py_buffer(np.full(n, ms, np.int64))])


def no_rows() -> pa.RecordBatch:
    """A batch of 0 rows, for spans from which everything was filtered."""
    return pa.RecordBatch.from_arrays([pa.array([], f.type) for f in SCHEMA], schema=SCHEMA)


def filter_rows(batch: EventBatch, mask: pa.Array) -> EventBatch:
    """The rows where `mask` is true; the span stays, so dropped rows still move the position."""
    return replace(batch, rows=batch.rows.filter(pc.fill_null(mask, False)))
