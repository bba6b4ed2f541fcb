"""Which handler answers which API key, in which versions: ApiVersions is made from this table.

How to add a key: one file in this folder, named after it (`init_producer_id.py`), and in it

    @handles(22, versions=(0, 4))
    async def init_producer_id(request: Request, session: Session, broker: Broker) -> Answer:
        body = request.body                       # the kio dataclass of request.api_version
        ...
        return response(22, request.api_version, error_code=ErrorCode.none, producer_id=7, producer_epoch=0)

then name the module in _MODULES below. `tailrace.broker.wire.messages.response` takes plain values (mappings
for nested structures, ints for milliseconds and error codes) and drops the fields that the version does not
have, so one handler is written once for all versions; fields of a request that some versions lack are read by
`getattr(body, "name", default)`.

Handlers run on the event loop and must not block for longer than a page-cache write. A plain `def` has done
its work when the next request of the connection is looked at; an `async def` starts after it, and may overlap
with later ones. Answers leave in the order of the requests, whatever order they finish in. A KafkaError never
crosses this border: it becomes an error code in the body. Any other exception closes the connection.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tailrace.broker.wire.messages import Request
from tailrace.errors import TailraceError

if TYPE_CHECKING:
    from tailrace.broker.api.broker import Broker

_MODULES = (
    "add_offsets_to_txn",
    "add_partitions_to_txn",
    "api_versions",
    "create_topics",
    "delete_topics",
    "describe_configs",
    "end_txn",
    "fetch",
    "find_coordinator",
    "heartbeat",
    "init_producer_id",
    "join_group",
    "leave_group",
    "list_offsets",
    "metadata",
    "offset_commit",
    "offset_fetch",
    "offset_for_leader_epoch",
    "produce",
    "sync_group",
    "txn_offset_commit",
)

Answer = Any
"""A response body (kio dataclass, ProduceResponse, FetchResponse), or None where no answer is due
(acks=0).
"""

Handler = Callable[[Request, "Session", "Broker"], Answer | Coroutine[Any, Any, Answer]]


class Disconnect(TailraceError):
    """Raised by a handler: close this connection, which is the only answer the client will understand."""


@dataclass(slots=True)
class Session:
    """What is known of one connection. Handlers may read it, and set what outlives one request."""

    client_host: str
    """The peer's address as Kafka shows it, `/127.0.0.1`."""
    server_host: str
    """The address of ours that the client connected to."""
    connection_id: int
    client_software: str = ""
    """Name and version, from ApiVersions v3."""


@dataclass(frozen=True, slots=True)
class Registration:
    """Versions are inclusive."""

    key: int
    lowest: int
    highest: int
    handler: Handler


_table: dict[int, Registration] = {}


def handles(key: int, *, versions: tuple[int, int]) -> Callable[[Handler], Handler]:
    """Registers the decorated function for an API key, in versions first to last (inclusive).

    A plain `def` answers at once and costs no task; an `async def` may wait. Views into the request (the
    records of Produce) are valid only in the plain part, so Produce is a plain `def` that may return a
    coroutine for the rest.
    """

    def register(handler: Handler) -> Handler:
        if key in _table:
            raise ValueError(f"API key {key} is registered twice")
        _table[key] = Registration(key, *versions, handler)
        return handler

    return register


def registrations() -> Mapping[int, Registration]:
    """All handlers by key, in the order of their keys."""
    for module in _MODULES:
        import_module(f"tailrace.broker.api.{module}")
    return dict(sorted(_table.items()))
