"""What the ledger is told and what it answers, as values."""

import enum
from dataclasses import dataclass
from typing import Literal

from tailrace.event import Partition, Record

RangeKind = Literal["DATA", "EMPTY", "GAP"]


@dataclass(frozen=True, slots=True)
class SinkId:
    """A sink as the ledger knows it; `instance` tells apart agents of one name on several hosts."""

    pipeline: str
    sink: str
    instance: str


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """What one batch may hold, and one lander at a time owns: a topic-partition, or all files of a sink."""

    kind: Literal["file", "topic", "stream"]
    stream: str = ""
    number: int = 0

    @classmethod
    def of(cls, partition: Partition) -> "Group":
        if partition.kind == "topic":
            return cls("topic", partition.id, partition.number)
        return cls(partition.kind)


@dataclass(frozen=True, slots=True)
class Ownership:
    """A group as we hold it: deciding needs this epoch to be the current one.

    `sequence` counts the batches decided so far.
    """

    id: int
    group: Group
    epoch: int
    sequence: int


@dataclass(frozen=True, slots=True)
class Held:
    """A partition of a group we hold: what is stored for it, and the furthest position ever decided."""

    id: int
    partition: Partition
    record: Record | None
    furthest: int | None


@dataclass(frozen=True, slots=True)
class Range:
    """Positions [start, end) of a batch, and what became of the rows in them."""

    start: int
    end: int
    kind: RangeKind
    rows: int = 0
    filtered: int = 0
    dead_lettered: int = 0


@dataclass(frozen=True, slots=True)
class Advance:
    """How far a batch takes one partition: to `end`, by ranges that follow one another without a hole.

    No ranges: only the source's state changes, the position does not move.
    """

    partition_state: int
    name: str
    """The partition's name as last seen."""
    expected: int | None
    """What `next` must be now; None when nothing was decided before, and then any start is right."""
    end: int
    state: bytes | None
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class LandedFile:
    """staging and final are URLs; bytes and checksum are the store's `Look`."""

    staging: str
    final: str
    rows: int
    bytes: int
    checksum: str
    min_position: int
    max_position: int
    dead: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """All that one DECIDE transaction stores."""

    batch: str
    ownership: Ownership
    advances: tuple[Advance, ...]
    files: tuple[LandedFile, ...]


@dataclass(frozen=True, slots=True)
class Undone:
    """A batch that is decided and not yet published."""

    batch: str
    files: tuple[LandedFile, ...]


class Answer(enum.Enum):
    """How a decision stands."""

    COMMITTED = "committed"
    REFUSED = "refused"
    """Nothing was stored: the epoch or a `next` was not what we held."""
    UNKNOWN = "unknown"
    """The reply to COMMIT was lost: only looking can tell."""
    ABSENT = "absent"
    """Looked after: it was never stored, and never will be."""
    OUSTED = "ousted"
    """Somebody else has acquired the group since; what became of the batch is theirs to finish."""
