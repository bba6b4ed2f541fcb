"""SyncGroup (key 14), versions 0 to 5: the leader brings the assignment, every member waits for its share.

KIP-345 (static members, version 3), KIP-559 (protocol type and name, 5).
"""

from collections.abc import Awaitable

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.coordinator.group_messages import Synced, SyncRequest
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.messages import Request, response

_FIRST_WITH_PROTOCOL = 5


@handles(14, versions=(0, 5))
def sync_group(request: Request, _: Session, broker: Broker) -> Answer | Awaitable[Answer]:
    body = request.body
    if request.api_version >= _FIRST_WITH_PROTOCOL and None in (body.protocol_type, body.protocol_name):
        return _response(request.api_version, Synced(ErrorCode.inconsistent_group_protocol))
    synced = broker.groups.sync(
        SyncRequest(
            body.group_id,
            body.member_id,
            getattr(body, "group_instance_id", None),
            body.generation_id,
            [(share.member_id, share.assignment) for share in body.assignments],
            getattr(body, "protocol_type", None),
            getattr(body, "protocol_name", None),
        )
    )
    return _answer(request.api_version, synced)


async def _answer(version: int, waiting: Awaitable[Synced]) -> Answer:
    return _response(version, await waiting)


def _response(version: int, synced: Synced) -> Answer:
    return response(
        14,
        version,
        error_code=synced.error,
        protocol_type=synced.protocol_type,
        protocol_name=synced.protocol,
        assignment=synced.assignment,
    )
