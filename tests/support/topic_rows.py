"""What is in a topic, read by confluent-kafka: the judge of the Kafka sink, and not our own client."""

import itertools
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition

_groups = itertools.count()


@dataclass(frozen=True)
class Row:
    partition: int
    offset: int
    key: bytes | None
    body: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def rows_in(bootstrap: str, topic: str, *, isolation: str = "read_committed") -> list[Row]:
    """All rows up to the end that the topic has now (its last stable offset), by partition and offset."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"judge-{next(_groups)}",
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        metadata = consumer.list_topics(topic, timeout=30).topics[topic]
        if metadata.error is not None:
            return []
        places = [TopicPartition(topic, number, 0) for number in metadata.partitions]
        consumer.assign(places)
        left = {place.partition for place in places}
        rows = []
        while left:
            for message in consumer.consume(1000, timeout=0.05):
                if message.error() is not None:
                    assert message.error().name() == "_PARTITION_EOF", message.error()
                    left.discard(message.partition())
                    continue
                headers = tuple(message.headers() or ())
                rows.append(
                    Row(message.partition(), message.offset(), message.key(), message.value(), headers)
                )
        return sorted(rows, key=lambda row: (row.partition, row.offset))
    finally:
        consumer.close()


def bodies_in(bootstrap: str, topic: str, *, isolation: str = "read_committed") -> list[bytes | None]:
    return [row.body for row in rows_in(bootstrap, topic, isolation=isolation)]
