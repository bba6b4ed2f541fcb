"""Which rows of a batch go to which partition of the topic, as columns."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.wire.partitioner import partition_of
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
    home = partition_of(batch.partition.id.encode(), partitions)
    if spread.by == "round_robin":
        home = spread.turn % partitions
        spread.turn += 1
    if spread.by in ("origin", "round_robin") or partitions == 1:
        return [Share(TopicPartition(topic, home), batch.rows, batch.partition)]
    keys = (
        batch.rows.column("key")
        if spread.by == "key"
        else _header(batch.rows, spread.by.removeprefix("header:"))
    )
    coded = keys.dictionary_encode()
    places = np.array(
        [
            home if key is None else partition_of(key, partitions)
            for key in [*coded.dictionary.to_pylist(), None]
        ]
    )
    numbers = places[coded.indices.fill_null(-1).to_numpy()]
    return [
        Share(
            TopicPartition(topic, int(number)),
            batch.rows.filter(pa.array(numbers == number)),
            batch.partition,
        )
        for number in np.unique(numbers)
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


def _header(rows: pa.RecordBatch, name: str) -> pa.Array:
    return pc.map_lookup(rows.column("headers"), pa.scalar(name), "first")
