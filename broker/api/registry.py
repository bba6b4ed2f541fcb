"""Which handler answers which API key, in which versions: ApiVersions is made from this table.

How to add a key: one file in this folder, named after it (`init_producer_id.py`), and in it

    @handles(22, versions=(0, 4))
    async def init_producer_id(request: Request, session: Session, broker: Broker) -> Answer:
        body = request.body                       # the kio dataclass of request.api_version
        ...
        return response(22, request.api_version, error_code=ErrorCode.none, producer_id=7, producer_epoch=0)

then name the module in HANDLERS below. `tailrace.broker.wire.messages.response` takes plain values (mappings for
nested structures, ints for milliseconds and error codes) and drops the fields that the version does not have, so
one handler is written once for all versions; fields of a request that a version lacks are read by
`getattr(body, "name", default)`.

A handler runs on the event loop. Requests of one connection are *started* in the order they came and may overlap
only where the handler awaits; their answers leave in order whatever order they finish in. It must not block for longer
than a page-cache write; what is slow goes through `await broker.synced(...)` and its like. What it raises:
KafkaError (errors.py) never crosses this border - turn it into the body's error codes; any other exception closes the
connection and is logged.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailrace.broker.wire.messages import Request

if TYPE_CHECKING:
    from tailrace.broker.api.broker import Broker

Answer = object
"""A response body (kio dataclass, ProduceResponse, FetchResponse), or None when the client waits for no answer (acks=0)."""

Handler = Callable[[Request, "Session", "Broker"], Answer | Awaitable[Answer]]


@dataclass(slots=True)
class Session:
    """What is known of one connection. Handlers may read it and set what outlives one request."""

    client_host: str
    """The peer's address without the port, as groups show it: `/127.0.0.1`."""
    connection_id: int
    client_software: str = ""
    """Name and version, from ApiVersions v3."""


@dataclass(frozen=True, slots=True)
class Registration:
    key: int
    lowest: int
    highest: int
    handler: Handler


_table: dict[int, Registration] = {}


def handles(key: int, *, versions: tuple[int, int]) -> Callable[[Handler], Handler]:
    """Registers the decorated function for an API key, in versions first to last (inclusive). Twice is a mistake.

    A plain `def` answers at once and costs no task; an `async def` may wait. Views into the request (the records
    of Produce) are valid only until the function first waits, so what reads them is a plain `def` that may
    return a coroutine for the rest.
    """

    def register(handler: Handler) -> Handler:
        if key in _table:
            raise ValueError(f"API key {key} is registered twice")
        _table[key] = Registration(key, *versions, handler)
        return handler

    return register
