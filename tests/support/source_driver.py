"""Plays the runner for one file source: assigns, seeks, takes batches, commits them, and can be killed.

The store outlives the source, as a sink's does. What it holds is checked on the way: batches follow without a
gap, rows lie in their span, and a state comes with every position.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailrace.clock import ManualClock
from tailrace.component import Assigned, Context, Revoked, Source
from tailrace.errors import Finished
from tailrace.event import EventBatch, Partition, Record


@dataclass
class Row:
    partition: Partition
    position: int
    body: bytes
    headers: dict[str, bytes]


@dataclass
class Store:
    """What a sink has committed."""

    records: dict[Partition, Record] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)

    @property
    def bodies(self) -> list[bytes]:
        return [row.body for row in self.rows]


class Driver:
    """One run of a source with one sink, until kill() or stop()."""

    def __init__(
        self,
        make: Callable[[Context], Source],
        store: Store,
        tmp_path: Path,
        clock: ManualClock,
        *,
        once: bool = False,
    ) -> None:
        self.store = store
        self.clock = clock
        self.uncommitted: list[EventBatch] = []
        self.assigned: dict[Partition, int | None] = {}
        """Partitions and the next position that a batch must begin at."""
        self.revoked: list[Partition] = []
        self.finished = False
        context = Context("p", "a", "files", "0" * 32, tmp_path, once=once, clock=clock)
        self.source = make(context)
        self.source.open([dict(store.records)])

    def step(self, timeout: float = 0) -> bool:
        """One call of read(); false when it gave nothing."""
        try:
            event = self.source.read(timeout)
        except Finished:
            self.finished = True
            return False
        if isinstance(event, EventBatch):
            self._take(event)
        elif isinstance(event, Assigned):
            for partition in event.partitions:
                self._seek(partition, self.store.records.get(partition))
        elif isinstance(event, Revoked):
            self.commit()
            self.revoked += event.partitions
            for partition in event.partitions:
                del self.assigned[partition]
        return event is not None

    def _seek(self, partition: Partition, record: Record | None) -> None:
        self.assigned[partition] = None if record is None else record.position
        self.source.seek(partition, record)

    def _take(self, batch: EventBatch) -> None:
        assert batch.partition in self.assigned, "a batch of a partition that was not assigned"
        expected = self.assigned[batch.partition]
        if expected is None:
            assert batch.span.start == 0
        else:
            assert batch.span.start == expected, (
                f"a gap in {batch.partition}: {expected} to {batch.span.start}"
            )
        assert batch.span.start < batch.span.end
        assert batch.state is not None
        positions = batch.rows.column("position").to_pylist()
        assert positions == sorted(set(positions))
        assert all(batch.span.start <= position < batch.span.end for position in positions)
        self.assigned[batch.partition] = batch.span.end
        self.uncommitted.append(batch)

    def read(self, most: int = 1000) -> None:
        """Until it gives nothing many times in a row: one call looks into a part of many files only."""
        idle = 0
        for _ in range(most):
            idle = 0 if self.step() else idle + 1
            if idle == 20 or self.finished:
                return
        raise AssertionError("it does not come to rest")

    def look(self, seconds: float = 5.0) -> None:
        """Lets time pass, so that the source looks anew; then reads."""
        self.clock.advance(seconds)
        self.read()

    def commit(self) -> None:
        positions: dict[Partition, int] = {}
        for batch in self.uncommitted:
            self.store.records[batch.partition] = Record(batch.span.end, batch.state)
            self.store.rows += rows_of(batch)
            positions[batch.partition] = batch.span.end
        self.uncommitted = []
        if positions:
            self.source.committed(positions, "")

    def rewind(self) -> None:
        """As after an abort: what was not committed is dropped, and every partition is sought again."""
        self.uncommitted = []
        for partition in list(self.assigned):
            self._seek(partition, self.store.records.get(partition))

    def bodies(self) -> list[bytes]:
        """Reads and commits what there is; all bodies that are committed."""
        self.read()
        self.commit()
        return self.store.bodies

    def run_once(self) -> list[bytes]:
        """Runs to Finished, turning the clock while nothing comes."""
        for _ in range(10_000):
            if not self.step():
                if self.finished:
                    self.commit()
                    return self.store.bodies
                self.clock.advance(0.5)
        raise AssertionError("it does not finish")

    def problems(self) -> Mapping[str, str]:
        return {Path(problem.place).name: problem.text for problem in self.source.problems()}

    def kill(self) -> None:
        """What was not committed is lost."""
        self.uncommitted = []
        self.source.close()


def rows_of(batch: EventBatch) -> list[Row]:
    rows: list[dict[str, Any]] = batch.rows.to_pylist()
    return [Row(batch.partition, row["position"], row["body"], dict(row["headers"] or [])) for row in rows]
