"""The round-robin assignor: all partitions of all topics in a row, dealt out to the members that want them,
in turn.

The same result as Apache Kafka's RoundRobinAssignor and librdkafka's "roundrobin".
"""

from collections.abc import Mapping, Sequence

from tailrace.broker.client.members import Assignment, Member
from tailrace.broker.client.topics import TopicPartition


def assign_roundrobin(members: Sequence[Member], partitions: Mapping[str, int]) -> Assignment:
    """`partitions`: number of partitions of each topic that exists; topics that are not in it are passed
    over."""
    circle = sorted(members, key=lambda m: m.rank)
    assignment: dict[str, list[TopicPartition]] = {member.id: [] for member in circle}
    turn = 0
    for topic in sorted(partitions):
        if not any(topic in member.topics for member in circle):
            continue
        for number in range(partitions[topic]):
            while topic not in circle[turn % len(circle)].topics:
                turn += 1
            assignment[circle[turn % len(circle)].id].append(TopicPartition(topic, number))
            turn += 1
    return assignment
