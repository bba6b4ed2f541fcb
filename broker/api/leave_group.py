"""LeaveGroup (key 13), versions 0 to 5: members go, and the rest of the group rebalances.

KIP-345 (several members, static ones by their instance id, version 3), KIP-800 (reasons, 5).
"""

from collections.abc import Awaitable

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.coordinator.group_messages import LeaveRequest, Left
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.messages import Request, response

_FIRST_WITH_MEMBERS = 3


@handles(13, versions=(0, 5))
def leave_group(request: Request, _: Session, broker: Broker) -> Awaitable[Answer]:
    body, version = request.body, request.api_version
    if version < _FIRST_WITH_MEMBERS:
        members = [(body.member_id, None)]
    else:
        members = [(member.member_id, member.group_instance_id) for member in body.members]
    return _answer(version, broker.groups.leave(LeaveRequest(body.group_id, members)))


async def _answer(version: int, waiting: Awaitable[Left]) -> Answer:
    left = await waiting
    error = left.error
    if version < _FIRST_WITH_MEMBERS and error is ErrorCode.none and left.members:
        error = left.members[0][2]
    members = [
        {"member_id": member_id, "group_instance_id": instance_id, "error_code": code}
        for member_id, instance_id, code in left.members
    ]
    return response(13, version, error_code=error, members=members)
