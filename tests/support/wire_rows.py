"""Rows for the tests of the record codec: Hypothesis strategies, and rows as the plain encoder takes them."""

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from tailrace.broker.wire.reference import SimpleRecord
from tailrace.event import HEADERS, SCHEMA, TIMESTAMP

NOW = 1_700_000_000_000

sizes = st.one_of(st.integers(0, 20), st.sampled_from([12, 13, 63, 64, 127, 128, 8191, 8192, 20_000]))
values = st.one_of(
    st.none(),
    st.binary(max_size=20),
    st.builds(lambda size, byte: bytes([byte]) * size, sizes, st.sampled_from([0, 1, 10, 97, 128, 255])),
)
names = st.text(max_size=6)
headers = st.one_of(
    st.none(),
    st.just([]),
    st.lists(st.tuples(names, st.one_of(st.none(), st.binary(max_size=14))), max_size=3),
)
times = st.one_of(
    st.none(),
    st.just(NOW),
    st.integers(NOW - 100_000_000, NOW + 100_000_000),
    st.sampled_from([0, -1, 2**40, -(2**53), 2**62]),
)
Row = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]] | None, int | None]


@st.composite
def tables(draw: Any, most: int = 150) -> list[Row]:
    """(key, body, headers, time) of up to `most` rows: many rows of few kinds, columns often constant."""
    kinds = draw(st.lists(st.tuples(values, values, headers, times), min_size=1, max_size=6))
    constant = draw(st.tuples(*[st.booleans()] * 4))
    kinds = [tuple(kinds[0][i] if constant[i] else kind[i] for i in range(4)) for kind in kinds]
    count = draw(st.integers(1, most))
    picks = draw(st.lists(st.integers(0, len(kinds) - 1), min_size=count, max_size=count))
    return [kinds[pick] for pick in picks]


def rows_of(table: list[Row]) -> pa.RecordBatch:
    """The columns of event.SCHEMA; positions from 0."""
    key, body, header, time = zip(*table, strict=True)
    columns = [
        pa.array(body, pa.binary()),
        pa.array(key, pa.binary()),
        pa.array(header, HEADERS),
        pa.array(time, pa.int64()).cast(TIMESTAMP),
        pa.array(np.arange(len(table))),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def records_of(table: list[Row], base_offset: int = 0) -> list[SimpleRecord]:
    """What a batch of these rows holds: a time that is null is -1 there."""
    return [
        SimpleRecord(key, body, tuple(header or ()), -1 if time is None else time, base_offset + index)
        for index, (key, body, header, time) in enumerate(table)
    ]


def records_in(rows: pa.RecordBatch | None) -> list[SimpleRecord]:
    """Decoded rows as plain records."""
    if rows is None:
        return []
    rows.validate(full=True)
    assert rows.schema.equals(SCHEMA)
    times = rows.column("timestamp").cast(pa.int64()).to_pylist()
    columns = [rows.column(name).to_pylist() for name in ("key", "body", "headers")]
    positions = rows.column("position").to_pylist()
    return [
        SimpleRecord(key, body, tuple(header or ()), time, position)
        for key, body, header, time, position in zip(*columns, times, positions, strict=True)
    ]
