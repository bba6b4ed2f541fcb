"""Which rows of a batch go to which partition of the topic, as columns; and what a dead letter looks like."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.wire.partitioner import partition_of, partitions_of
from tailrace.event import HEADERS, EventBatch, Partition


@dataclass(frozen=True, slots=True)
class Share:
    """Rows of one batch for one partition of a topic."""

    place: TopicPartition
    rows: pa.RecordBatch
    origin: Partition


@dataclass(slots=True)
class Spread:
    """`partition_by`: origin, key, round_robin or header:NAME; `turn` counts the batches sent round."""

    by: str
    turn: int = 0


def share_out(batch: EventBatch, topic: str, spread: Spread, partitions: int) -> list[Share]:
    """The batch's rows, each once, in their order within each partition. A row without its key goes by
    its origin.
    """
    if not batch.num_rows:
        return []
    origin = batch.partition
    home = partition_of((origin.id if origin.kind == "file" else origin.key).encode(), partitions)
    if spread.by == "round_robin":
        home = spread.turn % partitions
        spread.turn += 1
    if spread.by in ("origin", "round_robin") or partitions == 1:
        return [Share(TopicPartition(topic, home), batch.rows, origin)]
    numbers = partitions_of(_keys(batch.rows, spread.by), partitions, home)
    order = np.argsort(numbers, kind="stable")
    rows = batch.rows.take(pa.array(order))
    found, starts = np.unique(numbers[order], return_index=True)
    return [
        Share(TopicPartition(topic, int(number)), rows.slice(start, end - start), origin)
        for number, start, end in zip(found, starts, [*starts[1:], len(order)], strict=True)
    ]


def dead_letter(row: pa.RecordBatch, origin: Partition, reason: str) -> pa.RecordBatch:
    """The row with what it is and why it is here in its headers."""
    said = {
        "tailrace.reason": reason,
        "tailrace.origin": origin.name or origin.key,
        "tailrace.position": str(row.column("position")[0].as_py()),
    }
    headers = [
        *(row.column("headers")[0].as_py() or []),
        *((name, text.encode()) for name, text in said.items()),
    ]
    return row.set_column(2, row.schema.field("headers"), pa.array([headers], HEADERS))


def _keys(rows: pa.RecordBatch, by: str) -> pa.Array:
    if by == "key":
        return rows.column("key")
    return pc.map_lookup(rows.column("headers"), pa.scalar(by.removeprefix("header:")), "first")
