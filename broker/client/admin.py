"""Administration: make, delete and look at topics, and ask for offsets."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any, Literal

from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.errors import UnknownTopic, raise_for
from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.client.versions import (
    CREATE_TOPICS,
    DELETE_TOPICS,
    DESCRIBE_CONFIGS,
    LIST_OFFSETS,
    OFFSET_FETCH,
)
from tailrace.broker.wire.errors import ErrorCode
from tailrace.errors import Halt, Retry

EARLIEST = -2
LATEST = -1
Isolation = Literal["read_committed", "read_uncommitted"]
ISOLATION_LEVELS: Mapping[Isolation, int] = {"read_uncommitted": 0, "read_committed": 1}
_TOPIC_RESOURCE = 2
_STALE_LEADER = frozenset(
    {
        ErrorCode.unknown_topic_or_partition,
        ErrorCode.leader_not_available,
        ErrorCode.not_leader_or_follower,
        ErrorCode.fenced_leader_epoch,
        ErrorCode.unknown_leader_epoch,
    }
)


def create_topic(
    cluster: Cluster,
    name: str,
    *,
    partitions: int = 1,
    replication: int | None = None,
    configs: Mapping[str, str] | None = None,
) -> bool:
    """True when it was made, False when it was there already. replication None: 3, or as many as there are
    brokers.

    Returns when each of its partitions has a leader that serves it.
    """

    def create() -> bool:
        cluster.topics(())
        topic = {
            "name": name,
            "num_partitions": partitions,
            "replication_factor": replication or min(3, max(len(cluster.nodes), 1)),
            "assignments": (),
            "configs": [{"name": key, "value": value} for key, value in (configs or {}).items()],
        }
        answer = _to_controller(cluster, CREATE_TOPICS, topics=[topic], timeout=_milliseconds(cluster))
        for entry in answer.topics:
            if entry.error_code == ErrorCode.topic_already_exists:
                return False
            message = getattr(entry, "error_message", None)
            raise_for(entry.error_code, f"creating topic {name!r}{f' ({message})' if message else ''}")
        return True

    def serves() -> None:
        # A broker that metadata names as leader may not know it yet: only it can say.
        leaders = cluster.topic(name, fresh=True).partitions
        list_offsets(cluster, [TopicPartition(name, number) for number in range(len(leaders))])

    made = cluster.patiently(create)
    cluster.patiently(serves)
    return made


def delete_topic(cluster: Cluster, name: str) -> bool:
    """False when there was none. Returns when the broker has taken it; metadata may name it a moment
    longer."""

    def delete() -> bool:
        cluster.topics(())
        answer = _to_controller(cluster, DELETE_TOPICS, topic_names=[name], timeout=_milliseconds(cluster))
        for entry in answer.responses:
            if entry.error_code == ErrorCode.unknown_topic_or_partition:
                return False
            raise_for(entry.error_code, f"deleting topic {name!r}")
        return True

    try:
        return cluster.patiently(delete)
    finally:
        cluster.forget_topic(name)


def ensure_compacted(cluster: Cluster, name: str, *, partitions: int = 1) -> None:
    """Makes the compacted topic `name` (replication 3 where there are brokers for it); Halt when it is there
    and not compacted."""
    if name not in cluster.topics((name,)):
        create_topic(cluster, name, partitions=partitions, configs={"cleanup.policy": "compact"})
    policy = cluster.patiently(lambda: topic_configs(cluster, name, ("cleanup.policy",)))["cleanup.policy"]
    if policy != "compact":
        raise Halt(
            f"topic {name!r} has cleanup.policy={policy}: it would forget what it holds. Make it compact "
            f"(kafka-configs --alter --topic {name} --add-config cleanup.policy=compact)"
        )


def topic_configs(cluster: Cluster, name: str, keys: Collection[str] | None = None) -> Mapping[str, str]:
    """The topic's settings, defaults included. UnknownTopic when there is none."""
    resource = {
        "resource_type": _TOPIC_RESOURCE,
        "resource_name": name,
        "configuration_keys": None if keys is None else list(keys),
    }
    answer = cluster.call(None, DESCRIBE_CONFIGS, resources=[resource])
    for result in answer.results:
        if result.error_code == ErrorCode.unknown_topic_or_partition:
            raise UnknownTopic(name, f"topic {name!r} does not exist")
        raise_for(result.error_code, f"the settings of topic {name!r}")
        return {config.name: config.value or "" for config in result.configs}
    raise UnknownTopic(name, f"topic {name!r}: the broker answers nothing about its settings")


def list_offsets(
    cluster: Cluster,
    partitions: Collection[TopicPartition],
    at: int = LATEST,
    *,
    isolation: Isolation = "read_uncommitted",
) -> Mapping[TopicPartition, int]:
    """LATEST: the high watermark (read_uncommitted) or last stable offset (read_committed); EARLIEST: the log
    start; else the first offset with a timestamp >= `at` (ms), or -1 when there is none."""
    found: dict[TopicPartition, int] = {}

    def ask() -> None:
        by_leader: dict[int, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
        for partition in partitions:
            if partition not in found:
                leader = cluster.leader(partition)
                by_leader[leader.node][partition.topic].append(
                    {
                        "partition_index": partition.partition,
                        "current_leader_epoch": leader.epoch,
                        "timestamp": at,
                    }
                )
        for node, topics in by_leader.items():
            answer = cluster.call(
                node,
                LIST_OFFSETS,
                replica_id=-1,
                isolation_level=ISOLATION_LEVELS[isolation],
                topics=[{"name": name, "partitions": entries} for name, entries in topics.items()],
            )
            for topic in answer.topics:
                for entry in topic.partitions:
                    if entry.error_code in _STALE_LEADER:
                        cluster.forget_topic(topic.name)
                    partition = TopicPartition(topic.name, entry.partition_index)
                    raise_for(entry.error_code, f"the offsets of {partition}")
                    found[partition] = entry.offset
        if missing := [str(partition) for partition in partitions if partition not in found]:
            raise Retry(f"the offsets of {', '.join(missing)} were not answered")

    cluster.patiently(ask)
    return found


def committed_offsets(
    cluster: Cluster, group: str, partitions: Collection[TopicPartition]
) -> Mapping[TopicPartition, tuple[int, str]]:
    """A group's (offset, metadata), where there is one, for whoever is not a member."""

    def ask() -> Mapping[TopicPartition, tuple[int, str]]:
        by_topic: dict[str, list[int]] = defaultdict(list)
        for partition in partitions:
            by_topic[partition.topic].append(partition.partition)
        try:
            answer = cluster.call(
                cluster.coordinator("group", group),
                OFFSET_FETCH,
                group_id=group,
                topics=[{"name": name, "partition_indexes": numbers} for name, numbers in by_topic.items()],
                require_stable=True,
            )
            place = f"the offsets of group {group!r}"
            raise_for(getattr(answer, "error_code", 0), place)
            for topic in answer.topics:
                for entry in topic.partitions:
                    raise_for(entry.error_code, place)
        except Retry:
            cluster.forget_coordinator("group", group)
            raise
        return {
            TopicPartition(topic.name, entry.partition_index): (entry.committed_offset, entry.metadata or "")
            for topic in answer.topics
            for entry in topic.partitions
            if entry.committed_offset >= 0
        }

    return cluster.patiently(ask)


def _to_controller(cluster: Cluster, api: int, **fields: Any) -> Any:
    """To the controller: before KRaft nobody else does it."""
    node = cluster.controller if any(n.id == cluster.controller for n in cluster.nodes) else None
    return cluster.call(node, api, **fields)


def _milliseconds(cluster: Cluster) -> int:
    return int(cluster.timeout * 1000)
