"""FindCoordinator (key 10), versions 0 to 5: who coordinates a group or a transactional id: this broker.

KIP-98 (key type 1: transactions), KIP-699 (several keys, version 4), KIP-890 (version 5 adds an error that
never comes from here). Not here: share groups (key type 2).
"""

from typing import Any

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.messages import Request, response

_KEY_TYPES = (0, 1)
_FIRST_WITH_KEYS = 4


@handles(10, versions=(0, 5))
def find_coordinator(request: Request, session: Session, broker: Broker) -> Answer:
    body, version = request.body, request.api_version
    known = getattr(body, "key_type", 0) in _KEY_TYPES
    host, port = broker.advertised(session)
    answer: dict[str, Any] = {
        "error_code": ErrorCode.none,
        "node_id": broker.node_id,
        "host": host,
        "port": port,
    }
    if not known:
        text = f"there are no coordinators of key type {body.key_type}"
        answer = {
            "error_code": ErrorCode.invalid_request,
            "node_id": -1,
            "host": "",
            "port": -1,
            "error_message": text,
        }
    if version < _FIRST_WITH_KEYS:
        return response(10, version, **answer)
    return response(10, version, coordinators=[answer | {"key": key} for key in body.coordinator_keys])
