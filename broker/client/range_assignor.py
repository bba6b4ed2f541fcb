"""The range assignor: of each topic, neighbouring partitions to each member; the first members get one more.

The same result as Apache Kafka's RangeAssignor (without racks) and librdkafka's "range".
"""

from collections.abc import Mapping, Sequence

from tailrace.broker.client.members import Assignment, Member
from tailrace.broker.client.topics import TopicPartition


def assign_range(members: Sequence[Member], partitions: Mapping[str, int]) -> Assignment:
    """`partitions`: number of partitions of each topic that exists; topics that are not in it are passed
    over."""
    assignment: dict[str, list[TopicPartition]] = {member.id: [] for member in members}
    for topic in sorted(partitions):
        takers = sorted((m for m in members if topic in m.topics), key=lambda m: m.rank)
        if not takers:
            continue
        share, more = divmod(partitions[topic], len(takers))
        start = 0
        for index, member in enumerate(takers):
            end = start + share + (index < more)
            assignment[member.id] += [TopicPartition(topic, number) for number in range(start, end)]
            start = end
    return assignment
