"""OffsetFetch (key 9), versions 1 to 9: where groups go on reading.

Null topics (all that the group has) from version 2, KIP-320 (leader epochs, 5), KIP-447 (require_stable, 7),
KIP-709 (several groups, 8), KIP-848 (version 9; here for classic groups).
"""

from collections.abc import Awaitable, Iterable
from typing import Any

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.groups import Fetched
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.wire.messages import Request, response

_FIRST_WITH_GROUPS = 8


@handles(9, versions=(1, 9))
def offset_fetch(request: Request, _: Session, broker: Broker) -> Awaitable[Answer]:
    body = request.body
    groups = body.groups if request.api_version >= _FIRST_WITH_GROUPS else [body]
    stable = getattr(body, "require_stable", False)
    waiting = [
        (group.group_id, broker.groups.fetch(group.group_id, _places(group.topics), require_stable=stable))
        for group in groups
    ]
    return _answer(request.api_version, waiting)


def _places(topics: Iterable[Any] | None) -> list[tuple[str, int]] | None:
    if topics is None:
        return None
    return [(topic.name, index) for topic in topics for index in topic.partition_indexes]


async def _answer(version: int, waiting: Iterable[tuple[str, Awaitable[Fetched]]]) -> Answer:
    groups = [{"group_id": group_id, **_group(await fetched)} for group_id, fetched in waiting]
    if version >= _FIRST_WITH_GROUPS:
        return response(9, version, groups=groups)
    return response(9, version, topics=groups[0]["topics"], error_code=groups[0]["error_code"])


def _group(fetched: Fetched) -> dict[str, Any]:
    topics: dict[str, list[dict[str, Any]]] = {}
    for (topic, index), answer in fetched.offsets:
        topics.setdefault(topic, []).append(
            {
                "partition_index": index,
                "committed_offset": answer.offset,
                "committed_leader_epoch": answer.leader_epoch,
                "metadata": answer.metadata,
                "error_code": answer.error,
            }
        )
    named = [{"name": name, "partitions": partitions} for name, partitions in topics.items()]
    return {"topics": named, "error_code": fetched.error}
