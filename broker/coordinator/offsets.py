"""Committed offsets of the groups of one coordinator partition, and those that wait for a transaction."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

TopicPartition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Committed:
    """An offset as a client committed it. `metadata` is the client's text, given back as it came."""

    offset: int
    leader_epoch: int
    metadata: str
    timestamp: int
    """Wall ms of the commit."""
    at: int = -1
    """Offset of its record in the coordinator's own log: of two commits the one that came later counts."""


class Offsets:
    """The offsets as the log has them: changed only by what was appended or replayed."""

    def __init__(self) -> None:
        self._committed: dict[str, dict[TopicPartition, Committed]] = {}
        self._pending: dict[int, dict[tuple[str, TopicPartition], Committed]] = {}

    def groups(self) -> Iterator[str]:
        """Groups that have a committed offset."""
        return iter(tuple(self._committed))

    def topics(self) -> set[str]:
        """Topics that any group has an offset of."""
        return {topic for places in self._committed.values() for topic, _ in places}

    def of(self, group_id: str) -> Mapping[TopicPartition, Committed]:
        return self._committed.get(group_id, {})

    def unstable(self, group_id: str) -> set[TopicPartition]:
        """Where a transaction has left an offset and has not ended (KIP-447)."""
        return {place for held in self._pending.values() for group, place in held if group == group_id}

    def put(self, group_id: str, place: TopicPartition, committed: Committed | None) -> None:
        """A plain commit; None for a tombstone."""
        places = self._committed.setdefault(group_id, {})
        if committed is not None:
            places[place] = committed
        else:
            places.pop(place, None)
            if not places:
                del self._committed[group_id]

    def hold(self, producer_id: int, group_id: str, place: TopicPartition, committed: Committed) -> None:
        """A commit within a transaction: seen by nobody before end()."""
        self._pending.setdefault(producer_id, {})[group_id, place] = committed

    def end(self, producer_id: int, *, commit: bool) -> None:
        """The producer's transaction has its marker here. A plain commit later than the held one stands."""
        for (group_id, place), committed in self._pending.pop(producer_id, {}).items():
            current = self.of(group_id).get(place)
            if commit and (current is None or current.at < committed.at):
                self.put(group_id, place, committed)

    def holds(self) -> set[int]:
        """Producer ids with a transaction that has not ended here."""
        return set(self._pending)
