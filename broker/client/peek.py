"""Looks at the header of the record batch at an offset: whose it is, whatever the isolation."""

import uuid
from contextlib import closing

from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.errors import error_for
from tailrace.broker.client.feed import records_of
from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.client.versions import FETCH
from tailrace.broker.wire.batch import BatchHeader, headers
from tailrace.broker.wire.fetch import FetchPartition, FetchRequest, FetchTopic


def header_at(cluster: Cluster, partition: TopicPartition, offset: int) -> BatchHeader | None:
    """The first batch that ends at `offset` or later; None when there is none. Raises Retry and Refused."""
    topic = cluster.topic(partition.topic)
    leader = cluster.leader(partition)
    topic_id = None if topic.id is None else uuid.UUID(hex=topic.id)
    wanted = [FetchPartition(partition.partition, offset, max_bytes=1, leader_epoch=leader.epoch)]
    request = FetchRequest(
        [FetchTopic(partition.topic, topic_id, wanted)], max_wait_ms=0, max_bytes=1, isolation_level=0
    )
    with closing(cluster.connect(leader.node)) as connection:
        connection.send(FETCH, request)
        while (answer := connection.receive(cluster.timeout)) is None:
            pass
        response = answer[1]
        for code in [response.error, *(p.error for topic in response.topics for p in topic.partitions)]:
            if code:
                cluster.forget_topic(partition.topic)
                raise error_for(code, f"looking at {partition} offset {offset}")
        for fetched in (p for topic in response.topics for p in topic.partitions):
            for _, header in headers(records_of(fetched)):
                if header.last_offset >= offset:
                    return header
    return None
