"""Rows of the event schema for tests, and what a Produce request's batches say."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from tailrace.broker.wire.batch import BatchHeader, check_batch
from tailrace.broker.wire.decode import decode_fetch
from tailrace.clock import SystemClock
from tailrace.event import make_rows


def rows_of(
    *bodies: bytes, keys: Sequence[bytes | None] | None = None, timestamp: int | None = None
) -> pa.RecordBatch:
    """One row a body, positions from 0 on; of now, unless told otherwise."""
    if timestamp is None:
        timestamp = SystemClock().now_ms()
    key = None if keys is None else pa.array(keys, pa.binary())
    return make_rows(pa.array(bodies, pa.binary()), np.arange(len(bodies)), timestamp, key=key)


def numbered(start: int, end: int, size: int = 0) -> pa.RecordBatch:
    """Rows whose bodies are the numbers [start, end), filled up to `size` bytes."""
    return rows_of(*(b"%d" % n + b" " * (size - len(b"%d" % n)) for n in range(start, end)))


def produced(body: Any) -> dict[tuple[str, int], BatchHeader]:
    """The checked batch headers of a decoded Produce request, by topic and partition."""
    return {
        (topic, partition): check_batch(records)
        for topic, entries in body.topics
        for partition, records in entries
    }


def bodies_of(records: Any) -> list[bytes]:
    """Bodies of all records in a buffer of record batches."""
    rows = decode_fetch(records, start=0).rows
    return [] if rows is None else [body.strip() for body in rows.column("body").to_pylist()]
