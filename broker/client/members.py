"""What an assignor is given and what it gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tailrace.broker.client.topics import TopicPartition


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a group and the topics it wants."""

    id: str
    instance_id: str | None
    topics: tuple[str, ...]

    @property
    def rank(self) -> tuple[bool, str]:
        """Members are served in this order: static ones first, by instance id, so that a restart changes
        nothing."""
        return (self.instance_id is None, self.instance_id or self.id)


Assignment = Mapping[str, Sequence[TopicPartition]]
"""Partitions by member id; every member has an entry, and every partition of a wanted topic is in exactly
one."""
