"""A generation of a consumer group, in the kernel's words: what sinks check their place by."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tailrace.broker.client.generation import Generation
from tailrace.broker.client.topics import TopicPartition
from tailrace.event import Partition

_OF_TOPIC = "topic:"


@dataclass(frozen=True, slots=True)
class Place:
    """A Membership (tailrace.component)."""

    within: Generation

    @property
    def group(self) -> str:
        return self.within.group

    @property
    def generation(self) -> int:
        return self.within.generation

    @property
    def member_id(self) -> str:
        return self.within.member_id

    @property
    def instance_id(self) -> str | None:
        return self.within.instance_id

    def heartbeat(self) -> None:
        self.within.heartbeat()

    def offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, tuple[int, str]]:
        """As Membership; without what was committed for another topic of the same name."""
        by_place = {place_of(partition): partition for partition in partitions}
        found = self.within.committed(by_place)
        return {
            by_place[place]: committed
            for place, committed in found.items()
            if not committed[1].startswith(_OF_TOPIC) or committed[1] == _topic_stamp(by_place[place])
        }

    def commit(self, positions: Mapping[Partition, int], stamp: str) -> None:
        """The group's offsets, with `stamp` as metadata; without one, the topic's id."""
        self.within.commit(
            {
                place_of(partition): (position, stamp or _topic_stamp(partition))
                for partition, position in positions.items()
            }
        )


def place_of(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.name, partition.number)


def _topic_stamp(partition: Partition) -> str:
    return f"{_OF_TOPIC}{partition.id}"
