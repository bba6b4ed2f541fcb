"""Counts what a source has read, each row once however often it is read again."""

from collections.abc import Collection
from typing import cast

import pyarrow as pa
import pyarrow.compute as pc

from tailrace.event import EventBatch, Partition


class Meter:
    """Rows, and bytes of their bodies. One thread counts, any may look."""

    def __init__(self) -> None:
        self.rows = 0
        self.body_bytes = 0
        self._reached: dict[Partition, int] = {}

    def count(self, batch: EventBatch) -> None:
        reached = self._reached.get(batch.partition)
        fresh = batch if reached is None else batch.since(reached)
        if fresh is not None:
            self.rows += fresh.num_rows
            self.body_bytes += body_bytes(fresh.rows)
            self._reached[batch.partition] = batch.span.end

    def forget(self, partitions: Collection[Partition]) -> None:
        """They are gone; rows of them that come back are counted again."""
        for partition in partitions:
            self._reached.pop(partition, None)


def body_bytes(rows: pa.RecordBatch) -> int:
    """Sum of the lengths of the bodies."""
    lengths = pc.binary_length(cast(pa.BinaryArray, rows.column("body")))
    return int(pc.sum(lengths).as_py() or 0)
