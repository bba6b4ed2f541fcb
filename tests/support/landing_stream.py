"""A source that a seed decides: partitions whose batches, rows and faults are the same in every process.

Positions have holes (control and compacted records), some batches have no row left, some rows cannot land.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tailrace.event import TIMESTAMP, EventBatch, Partition, Record, Span, make_rows

HOUR = 3_600_000
START = 1_763_870_400_000


@dataclass(frozen=True)
class Row:
    position: int
    body: bytes
    dead: bool


class SeededPartition:
    """Batches one after the other; a batch begins where the one before it ended."""

    def __init__(self, partition: Partition, seed: int, batches: int, rows: int) -> None:
        self.partition = partition
        self._made: list[EventBatch] = []
        self.visible: dict[int, Row] = {}
        random = np.random.default_rng([seed, partition.number, *partition.id.encode()])
        at = int(random.integers(0, 50)) if partition.kind == "topic" else 0
        self.start = at
        for number in range(batches):
            self._made.append(self._batch(random, at, number, rows))
            at = self._made[-1].span.end
        self.end = at

    def _batch(self, random: np.random.Generator, at: int, number: int, rows: int) -> EventBatch:
        count = 0 if random.random() < 0.1 else int(random.integers(1, rows))
        positions = at + np.cumsum(random.integers(1, 4, count)) - 1
        end = (
            int(positions[-1]) + 1 + int(random.integers(0, 3)) if count else at + int(random.integers(1, 9))
        )
        bodies, times = [], []
        for position in positions.tolist():
            bad, timeless = random.random() < 0.02, random.random() < 0.02
            body = f"{self.partition.id} {position} {'x' * int(random.integers(0, 60))}".encode()
            bodies.append(body + b"\xff" if bad else body)
            times.append(
                None if timeless else START + number * HOUR // 3 + int(random.integers(0, HOUR // 2))
            )
            self.visible[position] = Row(position, bodies[-1], bad or timeless)
        made = make_rows(
            pa.array(bodies, pa.binary()), positions.astype(np.int64), pa.array(times, TIMESTAMP)
        )
        return EventBatch(made, self.partition, Span(at, end), state=f"state at {end}".encode())

    def since(self, record: Record | None) -> Iterator[EventBatch]:
        """From a committed position on: always a batch's end, and with the state that belongs to it."""
        position = self.start if record is None else record.position
        assert record is None or record.state == f"state at {position}".encode(), (self.partition, record)
        assert position in {self.start, *(one.span.end for one in self._made)}, position
        return (one for one in self._made if one.span.start >= position)


def partitions(
    kind: str, seed: int, *, count: int = 2, batches: int = 9, rows: int = 60
) -> list[SeededPartition]:
    """`count` partitions of one topic, or as many files."""
    if kind == "topic":
        names = [Partition("topic", "a3f" * 7, number, "weblogs") for number in range(count)]
    else:
        names = [Partition("file", f"{number:032x}", 0, f"/var/log/{number}.log") for number in range(count)]
    return [SeededPartition(one, seed, batches, rows) for one in names]
