"""What the client calls things: partitions of topics, and what a cluster says about its topics and nodes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class TopicPartition:
    """One partition, by the topic's name."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


@dataclass(frozen=True, slots=True)
class Node:
    """A broker of the cluster."""

    id: int
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port} (id {self.id})"


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads a partition: node is -1 while nobody does; epoch -1 where the cluster does not tell."""

    node: int
    epoch: int = -1


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the cluster's metadata has it.

    id          32 hex digits; None where the cluster has no topic ids (before Kafka 2.8)
    partitions  one Leader a partition, by partition number
    """

    name: str
    id: str | None
    partitions: tuple[Leader, ...]
