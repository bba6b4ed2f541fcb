"""EventBatches for tests of channels: bodies in, batches of one partition that follow each other out."""

import numpy as np
import pyarrow as pa

from tailrace.event import HEADERS, TIMESTAMP, EventBatch, Partition, Record, Span, make_rows

NOW = 1_700_000_000_000


def file_partition(n: int = 0) -> Partition:
    return Partition("file", f"{n:032x}", 0, f"/var/log/{n}.log")


class Feed:
    """Makes batches of one file partition, each beginning where the last one ended."""

    def __init__(self, n: int = 0, start: int = 0) -> None:
        self.partition = file_partition(n)
        self.position = start

    def batch(
        self, *bodies: bytes | None, span: int | None = None, keys=None, headers=None, times=None
    ) -> EventBatch:
        """One row of `span` positions (10 by default) for each body; without bodies a span with no rows."""
        start = self.position
        self.position += span if span is not None else 10 * max(1, len(bodies))
        n = len(bodies)
        rows = make_rows(
            pa.array(list(bodies), pa.binary()),
            np.arange(start, start + 10 * n, 10, dtype=np.int64),
            NOW if times is None else pa.array(times, pa.int64()).cast(TIMESTAMP),
            key=None if keys is None else pa.array(keys, pa.binary()),
            headers=None if headers is None else pa.array(headers, HEADERS),
        )
        return EventBatch(rows, self.partition, Span(start, self.position), b"state at %d" % self.position)

    def record(self) -> Record:
        """What a sink has stored that has everything so far."""
        return Record(self.position, b"state at %d" % self.position)


def bodies(batch: EventBatch) -> list[bytes | None]:
    return batch.rows.column("body").to_pylist()
