"""POSITION: whether the streams and the consumer group agree with the ledger, before anything is read.

A topic deleted and made again is another stream; and the group's offsets, which are never used, tell of a
ledger that is not the one that landed before.
"""

import re
from collections.abc import Collection, Mapping
from typing import Literal

from tailrace.component import Membership
from tailrace.errors import Halt
from tailrace.event import Partition
from tailrace.sinks.ledger.ledger import Ledger
from tailrace.sinks.ledger.model import Held, SinkId

_STAMP = re.compile(r"[0-9a-f]{32}")
"""A ledger's uuid, as it stands in the metadata of a group's offset; other consumers write other things there."""


def streams_replaced(
    ledger: Ledger,
    sink: SinkId,
    partitions: Collection[Partition],
    on_recreate: Literal["fail", "new_stream"],
) -> dict[Partition, list[str]]:
    """For each topic-partition the ids of other streams landed under its topic and number; Halt unless wanted."""
    found = {}
    for partition in partitions:
        if partition.kind != "topic":
            continue
        found[partition] = ledger.strangers(sink, partition)
        if found[partition] and on_recreate == "fail":
            raise Halt(
                f"{sink.sink}: topic {partition.name} was deleted and made again: partition {partition.number} was "
                f"landed from {', '.join(found[partition])}, and now is {partition.id}; to land the new one as a "
                "stream of its own, set `on_recreate: new_stream`"
            )
    return found


def compare_with_group(uuid: str, membership: Membership, held: Collection[Held]) -> None:
    """Halt when another ledger has stamped the group's offsets, or when they are ahead of everything decided.

    Offsets that somebody else has set are ignored, as long as the ledger knows the partition at all.
    """
    topics: Mapping[Partition, Held] = {one.partition: one for one in held if one.partition.kind == "topic"}
    if not topics:
        return
    for partition, (offset, metadata) in membership.offsets(topics).items():
        furthest = topics[partition].furthest
        stamped = _STAMP.fullmatch(metadata) is not None
        where = (
            f"group {membership.group!r} has committed offset {offset} of {partition.name}-{partition.number}"
        )
        if stamped and metadata != uuid:
            raise Halt(
                f"{where} by ledger {metadata}, and this is {uuid}: an empty or another ledger would land rows twice. "
                "Use that ledger, or another group"
            )
        if offset > (furthest or 0) and (stamped or furthest is None):
            raise Halt(
                f"{where}, but the ledger has decided only up to {furthest or 0}: an empty or restored ledger would "
                "land rows twice. Restore it, or delete the group's offsets to go on all the same"
            )
