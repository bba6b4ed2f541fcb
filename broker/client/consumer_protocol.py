"""What members of a consumer group tell each other through the coordinator: subscriptions and assignments.

Kafka's ConsumerProtocol (int16 version, then the schema of that version), as the Java client and librdkafka
write it. Version 0 is written; of newer ones, which only add fields at the end, the fields of version 0 are
read.
"""

import io
from collections import defaultdict
from collections.abc import Collection
from typing import Any

from kio.schema.consumer_protocol_assignment.v0.data import ConsumerProtocolAssignment
from kio.schema.consumer_protocol_subscription.v0.data import ConsumerProtocolSubscription
from kio.serial import entity_writer

from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.wire.build import build
from tailrace.broker.wire.reader import read_part
from tailrace.errors import Corrupt

_VERSION_0 = b"\0\0"


def encode_subscription(topics: Collection[str]) -> bytes:
    return _encode(ConsumerProtocolSubscription, {"topics": sorted(topics), "user_data": None})


def decode_subscription(data: bytes) -> tuple[str, ...]:
    """The topics; Corrupt when it is not a subscription."""
    return tuple(_decode(ConsumerProtocolSubscription, data).topics)


def encode_assignment(partitions: Collection[TopicPartition]) -> bytes:
    by_topic: dict[str, list[int]] = defaultdict(list)
    for partition in sorted(partitions):
        by_topic[partition.topic].append(partition.partition)
    topics = [{"topic": topic, "partitions": numbers} for topic, numbers in by_topic.items()]
    return _encode(ConsumerProtocolAssignment, {"assigned_partitions": topics, "user_data": None})


def decode_assignment(data: bytes) -> tuple[TopicPartition, ...]:
    """The partitions, sorted; none for empty bytes (a member that was given nothing). Corrupt when it is not
    an assignment."""
    if not data:
        return ()
    assigned = _decode(ConsumerProtocolAssignment, data).assigned_partitions
    return tuple(
        sorted(TopicPartition(entry.topic, number) for entry in assigned for number in entry.partitions)
    )


def _encode(entity: type[Any], values: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    entity_writer(entity)(out, build(entity, values, lambda _: False))
    return _VERSION_0 + out.getvalue()


def _decode(entity: type[Any], data: bytes) -> Any:
    view = memoryview(data)
    if len(view) < 2 or int.from_bytes(view[:2], "big", signed=True) < 0:
        raise Corrupt(f"{entity.__name__} of {len(view)} bytes has no version")
    return read_part(entity, view, 2)[0]
