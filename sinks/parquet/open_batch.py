"""The batch of one group while rows come in: how far each partition has come, and which files it has."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from tailrace.errors import Corrupt
from tailrace.event import EventBatch, Partition, Record
from tailrace.sinks.ledger.model import Advance, Held, Ownership, Range, RangeKind
from tailrace.sinks.parquet.names import Covered, GroupNames
from tailrace.sinks.parquet.part import Part


@dataclass(slots=True)
class Stretch:
    """Positions [start, end) of one partition, and what became of the rows in them."""

    start: int
    end: int
    gap: bool
    rows: int = 0
    dead_lettered: int = 0

    def as_range(self) -> Range:
        filled = self.rows or self.dead_lettered
        kind: RangeKind = "GAP" if self.gap else "DATA" if filled else "EMPTY"
        return Range(self.start, self.end, kind, self.rows, 0, self.dead_lettered)


@dataclass(slots=True)
class Progress:
    """One partition's part of an open batch; a gap is a stretch of its own. Never without a stretch."""

    partition: Partition
    stretches: list[Stretch]
    state: bytes | None

    @property
    def end(self) -> int:
        return self.stretches[-1].end

    def extend(self, incoming: EventBatch) -> None:
        if self.stretches[-1].gap != incoming.gap:
            self.stretches.append(Stretch(incoming.span.start, incoming.span.start, incoming.gap))
        self.stretches[-1].end = incoming.span.end
        self.partition, self.state = incoming.partition, incoming.state

    def count(self, rows: int, dead_lettered: int) -> None:
        self.stretches[-1].rows += rows
        self.stretches[-1].dead_lettered += dead_lettered


@dataclass(slots=True)
class OpenBatch:
    """What was written of a group since its last commit. `began` and `touched` are monotonic seconds."""

    began: float
    touched: float
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    progress: dict[Partition, Progress] = field(default_factory=dict)
    parts: dict[tuple[str, bool], Part] = field(default_factory=dict)
    """Those that take rows, by directory and whether they are dead letters."""
    closed: list[Part] = field(default_factory=list)
    """Those that were closed to make room; they are files of the same batch."""

    def all_parts(self) -> Iterator[Part]:
        yield from self.closed
        yield from self.parts.values()

    def covered(self) -> list[Covered]:
        return [Covered(one.partition, one.stretches[0].start, one.end) for one in self.progress.values()]


@dataclass(slots=True)
class OwnedGroup:
    """A group we hold in the ledger, and its batch in the making (None: nothing came since the last)."""

    ownership: Ownership
    names: GroupNames
    held: dict[Partition, Held]
    batch: OpenBatch | None = None

    def position(self, partition: Partition) -> int | None:
        """Where the next rows of `partition` begin; None when it is new. KeyError when it is not ours."""
        if self.batch is not None and partition in self.batch.progress:
            return self.batch.progress[partition].end
        return _position(self.held[partition].record)

    def unseen(self, incoming: EventBatch) -> EventBatch | None:
        """The part of `incoming` that the group does not have yet; None when there is none.

        Corrupt when positions before it are missing. A batch with an empty span at the current position
        still brings the source's new state.
        """
        at = self.position(incoming.partition)
        if at is None or (incoming.span.start == at == incoming.span.end):
            return incoming
        if incoming.span.start > at:
            name = incoming.partition.name or incoming.partition.key
            raise Corrupt(
                f"{name}: a batch begins at {incoming.span.start}, but {at} comes next; "
                "nothing from there on was stored"
            )
        return incoming.since(at)

    def extend(self, incoming: EventBatch, now: float) -> tuple[OpenBatch, Progress]:
        """The open batch, which now covers the span of `incoming`."""
        if self.batch is None:
            self.batch = OpenBatch(now, now)
        self.batch.touched = now
        start = incoming.span.start
        fresh = Progress(incoming.partition, [Stretch(start, start, incoming.gap)], incoming.state)
        progress = self.batch.progress.setdefault(incoming.partition, fresh)
        progress.extend(incoming)
        return self.batch, progress

    def advances(self) -> tuple[Advance, ...]:
        """What the open batch asks of the ledger."""
        assert self.batch is not None
        return tuple(
            Advance(
                self.held[partition].id,
                one.partition.name,
                _position(self.held[partition].record),
                one.end,
                one.state,
                tuple(stretch.as_range() for stretch in one.stretches if stretch.end > stretch.start),
            )
            for partition, one in self.batch.progress.items()
        )


def _position(record: Record | None) -> int | None:
    return record.position if record is not None else None
