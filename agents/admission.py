"""Decides for every batch whether a sink takes it: each position once, in order, of the current assignment.

Pure. Here re-read rows are dropped, and a hole in a partition is noticed before what follows is committed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tailrace.errors import Corrupt
from tailrace.event import EventBatch, Partition, Record


@dataclass(slots=True)
class _Place:
    assignment: int
    next: int | None
    """First position not yet taken; None when the partition is new, and may start anywhere."""


class Admission:
    """The places of one sink in all partitions it is given."""

    def __init__(self) -> None:
        self._places: dict[Partition, _Place] = {}

    def assign(
        self, partitions: Iterable[Partition], records: Mapping[Partition, Record], assignment: int
    ) -> None:
        """From now on batches of `partitions` are taken under `assignment`, from their records on."""
        for partition in partitions:
            record = records.get(partition)
            self._places[partition] = _Place(assignment, record.position if record is not None else None)

    def revoke(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self._places.pop(partition, None)

    def clear(self) -> None:
        """No batch is taken before the next assign()."""
        self._places.clear()

    def admit(self, batch: EventBatch) -> EventBatch | None:
        """The part of `batch` that is new to the sink; None when it is old in whole.

        Corrupt when positions before it were never seen: committing it would lose them.
        """
        place = self._places.get(batch.partition)
        if place is None or place.assignment != batch.assignment:
            return None
        if place.next is None:
            place.next = batch.span.end
            return batch
        if batch.span.start > place.next:
            name = batch.partition.name or batch.partition.key
            raise Corrupt(
                f"{name} ({batch.partition.key}): positions {place.next} to {batch.span.start} are missing"
                f" before a batch that ends at {batch.span.end}; nothing after {place.next} was stored"
            )
        if batch.span.start == batch.span.end == place.next:
            return batch  # only the source's state is new: a file has another name, say
        rest = batch.since(place.next)
        place.next = max(place.next, batch.span.end)
        return rest
