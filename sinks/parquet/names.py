"""Names of landed and staged files, and the words in a Parquet footer that tie a file to its batch."""

import json
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from tailrace.component import Context
from tailrace.event import Partition
from tailrace.sinks.ledger.model import Group
from tailrace.sinks.parquet.template import escape

STAGING = "_staging"
DEAD = "_dead"
MARKER = "_tailrace"


@dataclass(frozen=True, slots=True)
class GroupNames:
    """What a group's files are called.

    label    in front of each file's name: `<topic>-<partition>`, or `<agent>.<sink>`
    dead     directory of its dead letters, below the root
    staging  directory of its files in the making, below the root; in it one directory an epoch
    """

    label: str
    dead: str
    staging: str


def group_names(context: Context, group: Group, topic: str) -> GroupNames:
    """`topic` is the topic's name, for groups of kind topic."""
    agent, name = _part(context.agent), _part(context.name)
    sink = f"{agent}.{name}"
    ours = f"{STAGING}/{agent}/{name}"
    if group.kind == "topic":
        of_topic = _part(topic)
        where = f"{ours}/{of_topic}-{group.number}-{_part(group.stream)[-32:]}"
        return GroupNames(f"{of_topic}-{group.number}", f"{DEAD}/{of_topic}", where)
    kind = "" if group.kind == "file" else f"{group.kind}."
    return GroupNames(f"{kind}{sink}", f"{DEAD}/{sink}", f"{ours}/{group.kind}-{context.instance[:16]}")


def file_name(label: str, first: str, batch: str, index: int) -> str:
    """`first` is the range of a topic-partition, or the sequence number of a batch of files."""
    return f"{label}-{first}-{batch[:8]}-{index}.parquet"


def join(root: str, *parts: str) -> str:
    """A path in the store; empty parts leave no trace."""
    return posixpath.join(root, *(part for part in parts if part))


@dataclass(frozen=True, slots=True)
class Covered:
    """Positions [start, end) of one partition in a batch, as far as known when the file was closed."""

    partition: Partition
    start: int
    end: int


def footer(ledger: str, sink: str, batch: str, dead: bool, ranges: Sequence[Covered]) -> dict[str, str]:
    """Key-values for a Parquet footer; `tailrace.ranges` is JSON: kind, id, number, name, start, end."""
    rows = [
        [one.partition.kind, one.partition.id, one.partition.number, one.partition.name, one.start, one.end]
        for one in ranges
    ]
    return {
        "tailrace.ledger": ledger,
        "tailrace.sink": sink,
        "tailrace.batch": batch,
        "tailrace.bucket": "dead" if dead else "data",
        "tailrace.ranges": json.dumps(rows, ensure_ascii=True, separators=(",", ":")),
    }


def _part(text: str) -> str:
    return escape(text.encode("utf-8", "surrogateescape"))
