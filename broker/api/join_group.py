"""JoinGroup (key 11), versions 0 to 9: become a member, and wait for the next generation to begin.

KIP-62 (rebalance time-out, version 1), KIP-394 (member id required, 4), KIP-345 (static members, 5), KIP-559
(protocol type and name, 7), KIP-800 (reasons, 8), KIP-814 (leaders that need not assign, 9).
"""

import uuid
from collections.abc import Awaitable

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.coordinator.group_messages import Joined, JoinRequest
from tailrace.broker.wire.build import to_milliseconds
from tailrace.broker.wire.messages import Request, response

_FIRST_WITH_REQUIRED_ID = 4
_FIRST_WITH_NULL_PROTOCOL = 7
_FIRST_WITH_SKIPPED_ASSIGNMENT = 9
_MAX_NAME = 255
"""Characters of a client's name that its member id begins with."""


@handles(11, versions=(0, 9))
def join_group(request: Request, session: Session, broker: Broker) -> Awaitable[Answer]:
    body, version = request.body, request.api_version
    client_id = request.client_id or ""
    instance_id = getattr(body, "group_instance_id", None)
    session_timeout = to_milliseconds(body.session_timeout)
    rebalance_timeout = getattr(body, "rebalance_timeout", None)
    joined = broker.groups.join(
        JoinRequest(
            body.group_id,
            body.member_id,
            instance_id,
            client_id,
            session.client_host,
            session_timeout,
            session_timeout if rebalance_timeout is None else max(to_milliseconds(rebalance_timeout), 0),
            body.protocol_type,
            tuple((protocol.name, protocol.metadata) for protocol in body.protocols),
            f"{(instance_id or client_id)[:_MAX_NAME]}-{uuid.uuid4()}",
            needs_known_id=version >= _FIRST_WITH_REQUIRED_ID,
            can_skip_assignment=version >= _FIRST_WITH_SKIPPED_ASSIGNMENT,
        )
    )
    return _answer(version, joined)


async def _answer(version: int, waiting: Awaitable[Joined]) -> Answer:
    joined = await waiting
    no_protocol = None if version >= _FIRST_WITH_NULL_PROTOCOL else ""
    return response(
        11,
        version,
        error_code=joined.error,
        generation_id=joined.generation,
        protocol_type=joined.protocol_type,
        protocol_name=no_protocol if joined.protocol is None else joined.protocol,
        leader=joined.leader,
        skip_assignment=joined.skip_assignment,
        member_id=joined.member_id,
        members=[
            {"member_id": m.member_id, "group_instance_id": m.instance_id, "metadata": m.metadata}
            for m in joined.members
        ],
    )
