"""Heartbeat (key 12), versions 0 to 4: a member lives, and hears whether it must join again.

KIP-345 (static members, version 3).
"""

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.wire.messages import Request, response


@handles(12, versions=(0, 4))
def heartbeat(request: Request, _: Session, broker: Broker) -> Answer:
    body = request.body
    instance_id = getattr(body, "group_instance_id", None)
    error = broker.groups.heartbeat(body.group_id, body.member_id, instance_id, body.generation_id)
    return response(12, request.api_version, error_code=error)
