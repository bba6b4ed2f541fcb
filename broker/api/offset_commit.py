"""OffsetCommit (key 8), versions 2 to 9: where a group goes on reading; on disk when it is answered.

KIP-211 (retention is the broker's alone: `retention_time` of versions 2 to 4 is not looked at), KIP-320
(leader epochs, version 6), KIP-345 (static members, 7), KIP-848 (version 9; here for classic groups).
"""

from collections.abc import Awaitable, Mapping
from typing import Any

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.groups import Errors
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.coordinator.commit import CommitRequest
from tailrace.broker.coordinator.offsets import TopicPartition
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.messages import Request, response


@handles(8, versions=(2, 9))
def offset_commit(request: Request, _: Session, broker: Broker) -> Awaitable[Answer]:
    body = request.body
    commit = CommitRequest(
        body.group_id,
        body.member_id,
        getattr(body, "group_instance_id", None),
        body.generation_id_or_member_epoch,
        existing_offsets(broker, body.topics),
    )
    return _answer(request, broker.groups.commit(commit))


async def _answer(request: Request, waiting: Awaitable[Errors]) -> Answer:
    topics = commit_answer(request.body.topics, await waiting)
    return response(8, request.api_version, topics=topics)


def existing_offsets(broker: Broker, topics: Any) -> dict[TopicPartition, tuple[int, int, str]]:
    """(offset, leader epoch, metadata) of each partition that is there; also for TxnOffsetCommit."""
    return {
        (topic.name, part.partition_index): (
            part.committed_offset,
            getattr(part, "committed_leader_epoch", -1),
            part.committed_metadata or "",
        )
        for topic in topics
        for part in topic.partitions
        if broker.store.log(topic.name, part.partition_index) is not None
    }


def commit_answer(topics: Any, errors: Mapping[TopicPartition, ErrorCode]) -> list[dict[str, Any]]:
    """Topics of the answer, in the order of the request; partitions without an entry are not there."""
    unknown = ErrorCode.unknown_topic_or_partition
    return [
        {
            "name": topic.name,
            "partitions": [
                {
                    "partition_index": part.partition_index,
                    "error_code": errors.get((topic.name, part.partition_index), unknown),
                }
                for part in topic.partitions
            ],
        }
        for topic in topics
    ]
