"""Whole messages: headers and bodies of every API key and version that the broker and the client speak.

Frames are without their 4-byte size when read, and with it when written. Bodies are kio's dataclasses,
read by the bounded reader and written by kio; Produce and Fetch have dataclasses of their own
(produce.py, fetch.py).
"""

import io
import struct
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any, Literal

from kio.serial import entity_writer

from tailrace.broker.wire import fetch, produce
from tailrace.broker.wire.build import build
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.pieces import Buffer, Piece, piece_length
from tailrace.broker.wire.reader import MAX_ELEMENTS, Budget, read_entity, read_short_length, skip_tags
from tailrace.broker.wire.schema import columns
from tailrace.errors import Corrupt, TailraceError


@dataclass(frozen=True, slots=True)
class Api:
    """An API key: kio's name for it, the versions known here (inclusive), the first flexible one
    (KIP-482).
    """

    name: str
    lowest: int
    highest: int
    flexible: int


APIS: dict[int, Api] = {
    0: Api("produce", 0, 11, 9),
    1: Api("fetch", 4, 17, 12),
    2: Api("list_offsets", 1, 9, 6),
    3: Api("metadata", 0, 12, 9),
    8: Api("offset_commit", 2, 9, 8),
    9: Api("offset_fetch", 1, 9, 6),
    10: Api("find_coordinator", 0, 5, 3),
    11: Api("join_group", 0, 9, 6),
    12: Api("heartbeat", 0, 4, 4),
    13: Api("leave_group", 0, 5, 4),
    14: Api("sync_group", 0, 5, 4),
    18: Api("api_versions", 0, 4, 3),
    19: Api("create_topics", 2, 7, 5),
    20: Api("delete_topics", 1, 6, 4),
    22: Api("init_producer_id", 0, 5, 2),
    23: Api("offset_for_leader_epoch", 2, 4, 4),
    24: Api("add_partitions_to_txn", 0, 5, 3),
    25: Api("add_offsets_to_txn", 0, 4, 3),
    26: Api("end_txn", 0, 4, 3),
    28: Api("txn_offset_commit", 0, 4, 3),
    32: Api("describe_configs", 1, 4, 4),
}
"""Tops are Apache Kafka 3.9's (of ApiVersions 4.x's); floors are kio's, but Produce's (KAFKA-18659)."""

PRODUCE, FETCH, API_VERSIONS = 0, 1, 18
MAX_CLIENT_ELEMENTS = 5_000_000
"""Array elements a client accepts in an answer: a big cluster's metadata."""


class UnsupportedVersion(TailraceError):
    """A request in a version (or of a key) that is not known here; its header could be read."""

    def __init__(self, key: int, version: int, correlation_id: int) -> None:
        super().__init__(f"API key {key} version {version} is not known")
        self.key, self.version, self.correlation_id = key, version, correlation_id


@dataclass(frozen=True, slots=True)
class Request:
    """A decoded request. `body` is the kio dataclass of (api_key, api_version), ProduceRequest or
    FetchRequest.

    A ProduceRequest's records are views into the frame; everything else is copied out of it.
    """

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    body: Any


Direction = Literal["request", "response"]


@cache
def _entity(key: int, version: int, direction: Direction) -> type[Any]:
    api = APIS[key]
    if not api.lowest <= version <= api.highest:
        raise ValueError(f"{api.name} has no version {version} here, but {api.lowest} to {api.highest}")
    module = import_module(f"kio.schema.{api.name}.v{version}.{direction}")
    name = "".join(part.capitalize() for part in api.name.split("_")) + direction.capitalize()
    entity: type[Any] = getattr(module, name)
    return entity


def request_type(key: int, version: int) -> type[Any]:
    """kio's dataclass of a request body; ValueError (KeyError) when the version (key) is not in APIS."""
    return _entity(key, version, "request")


def response_type(key: int, version: int) -> type[Any]:
    """kio's dataclass of a response body; ValueError (KeyError) when the version (key) is not in APIS."""
    return _entity(key, version, "response")


def request(key: int, version: int, /, **values: Any) -> Any:
    """A request body of plain values, for any version: see build(). Not for Produce and Fetch."""
    return build(request_type(key, version), values, partial(_known, key, "request"))


def response(key: int, version: int, /, **values: Any) -> Any:
    """A response body of plain values, for any version: see build(). Not for Produce and Fetch."""
    return build(response_type(key, version), values, partial(_known, key, "response"))


@cache
def _known(key: int, direction: Direction, path: str) -> bool:
    """Whether any version of the message has the field at this dotted path."""
    api = APIS[key]
    return any(_has(_entity(key, v, direction), path) for v in range(api.lowest, api.highest + 1))


def _has(entity: type[Any] | None, path: str) -> bool:
    name, _, rest = path.partition(".")
    for column in columns(entity) if entity is not None else ():
        if column.name == name:
            return not rest or _has(column.entity, rest)
    return False


_HEADER = struct.Struct(">hhi")
_UNSUPPORTED_VERSION = ErrorCode.unsupported_version.to_bytes(2, "big")
"""An ApiVersions answer that begins with it is of version 0, whatever was asked (KIP-511)."""


def decode_request(frame: memoryview) -> Request:
    """The request in a frame. Raises UnsupportedVersion, or Corrupt for everything else that is wrong."""
    if len(frame) < _HEADER.size:
        raise Corrupt(f"a request of {len(frame)} bytes")
    key, version, correlation_id = _HEADER.unpack_from(frame)
    api = APIS.get(key)
    if api is None or not api.lowest <= version <= api.highest:
        raise UnsupportedVersion(key, version, correlation_id)
    try:
        length, at = read_short_length(frame, _HEADER.size)
        client_id = None if length < 0 else str(frame[at : at + length], "utf-8")
        at += max(length, 0)
        if version >= api.flexible:
            at = skip_tags(frame, at, Budget(MAX_ELEMENTS))
    except (struct.error, IndexError, ValueError) as error:
        raise Corrupt(f"the header of a request is cut short or malformed: {error}") from None
    body_view = frame[at:]
    body: Any
    if key == PRODUCE:
        body = produce.decode_request(version, body_view)
    elif key == FETCH:
        body = fetch.decode_request(version, body_view)
    else:
        body = read_entity(request_type(key, version), body_view)
    return Request(key, version, correlation_id, client_id, body)


def encode_response(key: int, version: int, correlation_id: int, body: Any) -> list[Piece]:
    """The frame of an answer, size in front, as pieces to be sent one after the other; a Fetch's may be
    file ranges.
    """
    # KIP-511: the client cannot know yet which header to expect, so that of ApiVersions never has tags.
    header = correlation_id.to_bytes(4, "big", signed=True)
    if version >= APIS[key].flexible and key != API_VERSIONS:
        header += b"\0"
    return _framed(header, _encode_body(key, version, body, "response"))


def encode_request(
    key: int, version: int, correlation_id: int, client_id: str | None, body: Any
) -> list[Piece]:
    """The frame of a request, size in front, as buffers to be sent one after the other."""
    header = _HEADER.pack(key, version, correlation_id)
    if client_id is None:
        header += b"\xff\xff"
    else:
        name = client_id.encode()
        header += len(name).to_bytes(2, "big") + name
    if version >= APIS[key].flexible:
        header += b"\0"
    return _framed(header, _encode_body(key, version, body, "request"))


def encoded(key: int, version: int, body: Any) -> bytes:
    """The bytes of a response body, for encode_response to take instead of `body`: what is sent often is
    kept so.
    """
    (data,) = _encode_body(key, version, body, "response")
    assert isinstance(data, Buffer)
    return bytes(data)


def _encode_body(key: int, version: int, body: Any, direction: Direction) -> list[Piece]:
    if isinstance(body, bytes):
        return [body]
    if key == PRODUCE:
        return produce.encode(version, body)
    if key == FETCH:
        return fetch.encode(version, body)
    out = io.BytesIO()
    write: Any = entity_writer(_entity(key, version, direction))
    write(out, body)
    return [out.getbuffer()]


def _framed(header: bytes, body: list[Piece]) -> list[Piece]:
    size = len(header) + sum(map(piece_length, body))
    head = size.to_bytes(4, "big") + header
    if isinstance(body[0], bytes | bytearray | memoryview) and len(body[0]) < 1 << 14:
        body[0] = head + bytes(body[0])
        return body
    return [head, *body]


def decode_response(key: int, version: int, frame: Buffer) -> tuple[int, Any]:
    """(correlation id, body) of an answer's frame; Corrupt when it is not one. A Fetch's records are views
    into it.
    """
    view = memoryview(frame).toreadonly()
    if len(view) < 4:
        raise Corrupt(f"a response of {len(view)} bytes")
    correlation_id = int.from_bytes(view[:4], "big", signed=True)
    at = 4
    try:
        if version >= APIS[key].flexible and key != API_VERSIONS:
            at = skip_tags(view, at, Budget(MAX_CLIENT_ELEMENTS))
    except IndexError:
        raise Corrupt("the header of a response is cut short") from None
    if key == API_VERSIONS and view[4:6] == _UNSUPPORTED_VERSION:
        version = 0
    if key == PRODUCE:
        return correlation_id, produce.decode_response(version, view[at:])
    if key == FETCH:
        return correlation_id, fetch.decode_response(version, view[at:])
    return correlation_id, read_entity(response_type(key, version), view[at:], elements=MAX_CLIENT_ELEMENTS)
