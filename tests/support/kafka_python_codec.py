"""kafka-python's message codec as a second opinion: made from Kafka's own JSON schemas, independently of
kio.
"""

import importlib
import pkgutil
from typing import Any, Literal

import kafka.protocol
from kafka.protocol.api_message import ApiMessage


def _messages() -> dict[tuple[str, int], Any]:
    for module in pkgutil.walk_packages(kafka.protocol.__path__, "kafka.protocol."):
        if ".old" not in module.name and "generate" not in module.name:
            importlib.import_module(module.name)
    found, waiting = {}, list(ApiMessage.__subclasses__())
    while waiting:
        message = waiting.pop()
        waiting += message.__subclasses__()
        found[(message.type, message.API_KEY)] = message
    return found


_MESSAGES = _messages()


def rewritten(direction: Literal["request", "response"], key: int, version: int, body: bytes) -> bytes:
    """What kafka-python writes for what it read from `body` (a message without its header)."""
    message = _MESSAGES[direction, key].decode(body, version=version)
    message._header = None
    data: bytes = message.encode(version=version)
    return data
