"""Test doubles of the component contracts: a source of numbers, a channel, a log, and a sink with a store.

Each does what its contract says and nothing else; faults are asked for by name.
"""

import threading
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from tailrace.component import Assigned, Membership, Problem, Revoked, Scope, Totals
from tailrace.errors import Finished
from tailrace.event import EventBatch, Partition, Record, Span, make_rows


def partition(name: str = "p") -> Partition:
    return Partition("file", name, name=name)


def batch(
    where: Partition, start: int, end: int, assignment: int = 0, state: bytes | None = None
) -> EventBatch:
    """Rows whose body is their position."""
    positions = np.arange(start, end, dtype=np.int64)
    body = pa.array(positions).cast(pa.string()).cast(pa.binary())
    return EventBatch(make_rows(body, positions, 0), where, Span(start, end), state, assignment)


class Numbers:
    """A source of `count` rows in each partition; events put into `changes` come before rows."""

    def __init__(self, partitions: Sequence[Partition], count: int, size: int = 10) -> None:
        self.count = count
        self.size = size
        self.changes: deque[Assigned | Revoked | BaseException] = deque([Assigned(tuple(partitions))])
        self.next: dict[Partition, int] = {}
        self.told: dict[Partition, int] = {}
        self.stamps: list[str] = []
        self.opened_with: Sequence[Mapping[Partition, Record]] | None = None
        self.seeks: list[tuple[Partition, Record | None]] = []
        self.closed = False

    def open(self, records: Sequence[Mapping[Partition, Record]]) -> None:
        self.opened_with = records

    def read(self, timeout: float) -> EventBatch | Assigned | Revoked | None:
        if self.changes:
            change = self.changes.popleft()
            if isinstance(change, BaseException):
                raise change
            if isinstance(change, Revoked):
                for gone in change.partitions:
                    self.next.pop(gone, None)
            return change
        for where, start in self.next.items():
            if start < self.count:
                end = min(start + self.size, self.count)
                self.next[where] = end
                return batch(where, start, end, state=f"at {end}".encode())
        raise Finished("all rows were read")

    def seek(self, partition: Partition, record: Record | None) -> None:
        self.seeks.append((partition, record))
        self.next[partition] = 0 if record is None else record.position

    def committed(self, positions: Mapping[Partition, int], stamp: str) -> None:
        self.told.update(positions)
        self.stamps.append(stamp)

    def lag(self) -> int | None:
        return sum(self.count - start for start in self.next.values())

    def problems(self) -> Sequence[Problem]:
        return ()

    def close(self) -> None:
        self.closed = True


class Queue:
    """A channel of at most `capacity` batches."""

    def __init__(self, capacity: int = 4) -> None:
        self.capacity = capacity
        self.batches: deque[EventBatch] = deque()
        self.changed = threading.Condition()
        self.closed = False

    def open(self) -> None:
        pass

    def put(self, batch: EventBatch, timeout: float) -> bool:
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.batches) < self.capacity, timeout):
                return False
            self.batches.append(batch)
            self.changed.notify_all()
            return True

    def take(self, timeout: float) -> EventBatch | None:
        with self.changed:
            if not self.changed.wait_for(lambda: bool(self.batches), timeout):
                return None
            self.changed.notify_all()
            return self.batches.popleft()

    def depth(self) -> tuple[int, int]:
        with self.changed:
            return sum(b.num_rows for b in self.batches), sum(b.nbytes for b in self.batches)

    def clear(self) -> None:
        with self.changed:
            self.batches.clear()
            self.changed.notify_all()

    def close(self) -> None:
        self.closed = True


@dataclass
class Store:
    """What outlives a sink: rows and records, changed together."""

    rows: dict[Partition, list[int]] = field(default_factory=dict)
    """By partition, the numbers in the bodies of its rows."""
    records: dict[Partition, Record] = field(default_factory=dict)


class StoringSink:
    """A sink that stores rows and origins at once. `faults` maps a verb's name to errors it raises first."""

    def __init__(self, store: Store, every: int = 3) -> None:
        self.totals = Totals()
        self.stamp = "stamp"
        self.store = store
        self.every = every
        self.faults: dict[str, deque[BaseException]] = {}
        self.calls: list[str] = []
        self.open_batches: list[EventBatch] = []
        self.closed = False

    def fail(self, verb: str, *errors: BaseException) -> None:
        self.faults.setdefault(verb, deque()).extend(errors)

    def _called(self, verb: str) -> None:
        self.calls.append(verb)
        if self.faults.get(verb):
            raise self.faults[verb].popleft()

    def open(self) -> None:
        self._called("open")

    def acquire(
        self, partitions: Collection[Partition] | Scope, membership: Membership | None = None
    ) -> Mapping[Partition, Record]:
        self._called("acquire")
        if isinstance(partitions, Scope):
            return dict(self.store.records)
        self.open_batches = [b for b in self.open_batches if b.partition not in partitions]
        return {p: self.store.records[p] for p in partitions if p in self.store.records}

    def write(self, batch: EventBatch) -> None:
        self._called("write")
        self.open_batches.append(batch)

    def due(self) -> bool:
        return len(self.open_batches) >= self.every

    def commit(self) -> Mapping[Partition, int]:
        self._called("commit")
        committed = {}
        for b in self.open_batches:
            self.store.rows.setdefault(b.partition, []).extend(map(int, b.rows.column("body").to_pylist()))
            self.store.records[b.partition] = Record(b.span.end, b.state)
            self.totals.rows += b.num_rows
            committed[b.partition] = b.span.end
        self.open_batches = []
        return committed

    def abort(self) -> None:
        self._called("abort")
        self.open_batches = []

    def revoke(self, partitions: Collection[Partition], lost: bool) -> None:
        self._called("revoke")
        self.open_batches = [b for b in self.open_batches if b.partition not in partitions]

    def problems(self) -> Sequence[Problem]:
        return ()

    def close(self) -> None:
        self.closed = True


@dataclass
class Disk:
    """What outlives a durable channel."""

    stream: Partition = field(default_factory=lambda: Partition("stream", "s1", name="c"))
    batches: list[EventBatch] = field(default_factory=list)
    records: dict[Partition, Record] = field(default_factory=dict)
    released: int = 0


class Log:
    """A durable channel: one append stores rows under a new origin, and the record of their source."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.partition = disk.stream
        self._changed = threading.Condition()
        self._next = 0

    def open(self) -> None:
        pass

    def put(self, batch: EventBatch, timeout: float) -> bool:
        with self._changed:
            start = self.disk.batches[-1].span.end if self.disk.batches else 0
            end = start + max(batch.num_rows, 1)
            offsets = np.arange(start, start + batch.num_rows, dtype=np.int64)
            rows = make_rows(batch.rows.column("body"), offsets, batch.rows.column("timestamp"))
            self.disk.batches.append(EventBatch(rows, self.partition, Span(start, end)))
            self.disk.records[batch.partition] = Record(batch.span.end, batch.state)
            self._changed.notify_all()
            return True

    def _following(self) -> list[EventBatch]:
        return [b for b in self.disk.batches if b.span.start >= self._next]

    def take(self, timeout: float) -> EventBatch | None:
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._following()), timeout):
                return None
            taken = self._following()[0]
            self._next = taken.span.end
            return taken

    def depth(self) -> tuple[int, int]:
        with self._changed:
            return sum(b.num_rows for b in self._following()), 0

    def clear(self) -> None:
        pass

    def close(self) -> None:
        pass

    def committed(self) -> Mapping[Partition, Record]:
        with self._changed:
            return dict(self.disk.records)

    def seek(self, record: Record | None) -> None:
        with self._changed:
            self._next = 0 if record is None else record.position

    def release(self, position: int) -> None:
        with self._changed:
            self.disk.released = position
