"""Fetch (API key 1) requests and answers, versions 4 to 17, by hand: records are views, buffers or file
ranges, never copies.

Topics go by name up to version 12 and by id from 13 on; the other one is empty (None). Tagged fields
(diverging epoch, current leader, node endpoints, snapshot id) are skipped when read and never sent: the
one broker leads.
"""

import struct
import uuid
from dataclasses import dataclass, field

from tailrace.broker.wire.batch import AbortedTxn
from tailrace.broker.wire.pieces import Piece, piece_length
from tailrace.broker.wire.primitives import Primitives, frame_reader, primitives
from tailrace.broker.wire.reader import MAX_ELEMENTS, Budget
from tailrace.errors import Corrupt

_FLEXIBLE, _TOPIC_IDS, _REPLICA_STATE = 12, 13, 15
_INT32 = struct.Struct(">i")
_INT64 = struct.Struct(">q")
_WAIT = struct.Struct(">iiib")
_SESSION = struct.Struct(">ii")
_ERROR_SESSION = struct.Struct(">hi")
_WANTED_4 = struct.Struct(">iqi")
_WANTED_5 = struct.Struct(">iqqi")
_WANTED_9 = struct.Struct(">iiqqi")
_WANTED_12 = struct.Struct(">iiqiqi")
_FETCHED = struct.Struct(">ihqq")
_ABORTED = struct.Struct(">qq")


@dataclass(slots=True)
class FetchPartition:
    """What is wanted of one partition, from `offset` on; an epoch of -1 is not checked."""

    partition: int
    offset: int
    max_bytes: int = 1 << 20
    leader_epoch: int = -1
    last_fetched_epoch: int = -1
    log_start: int = -1


@dataclass(slots=True)
class FetchTopic:
    name: str
    topic_id: uuid.UUID | None
    partitions: list[FetchPartition]


@dataclass(slots=True)
class FetchRequest:
    """`isolation_level` 1 is read_committed. Session fields are KIP-227's; (0, -1) is a full fetch without
    a session.
    """

    topics: list[FetchTopic]
    max_wait_ms: int = 500
    min_bytes: int = 1
    max_bytes: int = 50 << 20
    isolation_level: int = 0
    session_id: int = 0
    session_epoch: int = -1
    replica_id: int = -1
    rack_id: str = ""


@dataclass(slots=True)
class PartitionFetched:
    """The answer for one partition. `records` is a view into the frame when decoded; empty when there are
    none.
    """

    partition: int
    error: int = 0
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start: int = -1
    aborted: list[AbortedTxn] | None = None
    records: Piece | None = b""
    preferred_read_replica: int = -1


@dataclass(slots=True)
class TopicFetched:
    name: str
    topic_id: uuid.UUID | None
    partitions: list[PartitionFetched]


@dataclass(slots=True)
class FetchResponse:
    topics: list[TopicFetched] = field(default_factory=list)
    error: int = 0
    session_id: int = 0
    throttle_ms: int = 0


@frame_reader("a Fetch request")
def decode_request(version: int, body: memoryview) -> tuple[FetchRequest, int]:
    """Corrupt when it is not a Fetch request of that version, whole and nothing else."""
    p, budget, at = primitives(version >= _FLEXIBLE), Budget(MAX_ELEMENTS), 0
    request = FetchRequest([])
    if version < _REPLICA_STATE:
        (request.replica_id,) = _INT32.unpack_from(body, at)
        at += 4
    request.max_wait_ms, request.min_bytes, request.max_bytes, request.isolation_level = _WAIT.unpack_from(
        body, at
    )
    at += _WAIT.size
    if version >= 7:
        request.session_id, request.session_epoch = _SESSION.unpack_from(body, at)
        at += _SESSION.size
    count, at = p.count(body, at, budget)
    for _ in range(count):
        topic, at = _decode_topic(version, p, body, at)
        partition_count, at = p.count(body, at, budget)
        for _ in range(partition_count):
            wanted, at = _decode_wanted(version, body, at)
            at = p.skip_tags(body, at, budget)
            topic.partitions.append(wanted)
        at = p.skip_tags(body, at, budget)
        request.topics.append(topic)
    if version >= 7:
        at = _skip_forgotten(version, p, body, at, budget)
    if version >= 11:
        request.rack_id, at = p.string(body, at)
    # From version 15 on a follower's id is a tagged field; the one broker has none, so it is skipped.
    return request, p.skip_tags(body, at, budget)


def _decode_topic(version: int, p: Primitives, body: memoryview, at: int) -> tuple[FetchTopic, int]:
    if version >= _TOPIC_IDS:
        if at + 16 > len(body):
            raise Corrupt("a topic id is cut short")
        return FetchTopic("", uuid.UUID(bytes=bytes(body[at : at + 16])), []), at + 16
    name, at = p.string(body, at)
    return FetchTopic(name, None, []), at


def _decode_wanted(version: int, body: memoryview, at: int) -> tuple[FetchPartition, int]:
    layout = _wanted_layout(version)
    values = layout.unpack_from(body, at)
    at += layout.size
    if version >= 12:
        index, leader_epoch, offset, last_fetched_epoch, log_start, max_bytes = values
        return FetchPartition(index, offset, max_bytes, leader_epoch, last_fetched_epoch, log_start), at
    if version >= 9:
        index, leader_epoch, offset, log_start, max_bytes = values
        return FetchPartition(index, offset, max_bytes, leader_epoch, -1, log_start), at
    if version >= 5:
        index, offset, log_start, max_bytes = values
        return FetchPartition(index, offset, max_bytes, -1, -1, log_start), at
    index, offset, max_bytes = values
    return FetchPartition(index, offset, max_bytes), at


def _wanted_layout(version: int) -> struct.Struct:
    return (
        _WANTED_12
        if version >= 12
        else _WANTED_9
        if version >= 9
        else _WANTED_5
        if version >= 5
        else _WANTED_4
    )


def _skip_forgotten(version: int, p: Primitives, body: memoryview, at: int, budget: Budget) -> int:
    """The partitions an incremental session gives up: there are no sessions, so they mean nothing."""
    count, at = p.count(body, at, budget)
    for _ in range(count):
        _, at = _decode_topic(version, p, body, at)
        partition_count, at = p.count(body, at, budget)
        at += 4 * partition_count
        if at > len(body):
            raise Corrupt("the forgotten partitions are cut short")
        at = p.skip_tags(body, at, budget)
    return at


@frame_reader("a Fetch response")
def decode_response(version: int, body: memoryview) -> tuple[FetchResponse, int]:
    """Corrupt when it is not a Fetch answer of that version, whole and nothing else."""
    p, budget = primitives(version >= _FLEXIBLE), Budget(MAX_ELEMENTS)
    response = FetchResponse()
    (response.throttle_ms,) = _INT32.unpack_from(body, 0)
    at = 4
    if version >= 7:
        response.error, response.session_id = _ERROR_SESSION.unpack_from(body, at)
        at += _ERROR_SESSION.size
    count, at = p.count(body, at, budget)
    for _ in range(count):
        asked, at = _decode_topic(version, p, body, at)
        topic = TopicFetched(asked.name, asked.topic_id, [])
        partition_count, at = p.count(body, at, budget)
        for _ in range(partition_count):
            fetched, at = _decode_fetched(version, p, body, at, budget)
            topic.partitions.append(fetched)
        at = p.skip_tags(body, at, budget)
        response.topics.append(topic)
    return response, p.skip_tags(body, at, budget)


def _decode_fetched(
    version: int, p: Primitives, body: memoryview, at: int, budget: Budget
) -> tuple[PartitionFetched, int]:
    fetched = PartitionFetched(*_FETCHED.unpack_from(body, at))
    at += _FETCHED.size
    if version >= 5:
        (fetched.log_start,) = _INT64.unpack_from(body, at)
        at += 8
    count, at = p.length(body, at)
    if count >= 0:
        budget.take(count)
        fetched.aborted = []
        for _ in range(count):
            fetched.aborted.append(AbortedTxn(*_ABORTED.unpack_from(body, at)))
            at = p.skip_tags(body, at + _ABORTED.size, budget)
    if version >= 11:
        (fetched.preferred_read_replica,) = _INT32.unpack_from(body, at)
        at += 4
    length, at = p.length(body, at)
    fetched.records = body[at : at + length] if length >= 0 else None
    return fetched, p.skip_tags(body, at + max(length, 0), budget)


def encode(version: int, body: FetchRequest | FetchResponse) -> list[Piece]:
    """Without header and size; records are pieces of their own, not copied."""
    if isinstance(body, FetchRequest):
        return [_encode_request(version, body)]
    return _encode_response(version, body)


def _encode_request(version: int, body: FetchRequest) -> bytes:
    p = primitives(version >= _FLEXIBLE)
    out = bytearray()
    if version < _REPLICA_STATE:
        out += _INT32.pack(body.replica_id)
    out += _WAIT.pack(body.max_wait_ms, body.min_bytes, body.max_bytes, body.isolation_level)
    if version >= 7:
        out += _SESSION.pack(body.session_id, body.session_epoch)
    out += p.put_length(len(body.topics))
    for topic in body.topics:
        out += _put_topic(version, p, topic)
        out += p.put_length(len(topic.partitions))
        for wanted in topic.partitions:
            out += _put_wanted(version, wanted)
            out += p.no_tags
        out += p.no_tags
    if version >= 7:
        out += p.put_length(0)
    if version >= 11:
        out += p.put_string(body.rack_id)
    out += p.no_tags
    return bytes(out)


def _put_topic(version: int, p: Primitives, topic: FetchTopic | TopicFetched) -> bytes:
    if version < _TOPIC_IDS:
        return p.put_string(topic.name)
    return bytes(16) if topic.topic_id is None else topic.topic_id.bytes


def _put_wanted(version: int, w: FetchPartition) -> bytes:
    if version >= 12:
        return _WANTED_12.pack(
            w.partition, w.leader_epoch, w.offset, w.last_fetched_epoch, w.log_start, w.max_bytes
        )
    if version >= 9:
        return _WANTED_9.pack(w.partition, w.leader_epoch, w.offset, w.log_start, w.max_bytes)
    if version >= 5:
        return _WANTED_5.pack(w.partition, w.offset, w.log_start, w.max_bytes)
    return _WANTED_4.pack(w.partition, w.offset, w.max_bytes)


def _encode_response(version: int, body: FetchResponse) -> list[Piece]:
    p = primitives(version >= _FLEXIBLE)
    pieces: list[Piece] = []
    out = bytearray(_INT32.pack(body.throttle_ms))
    if version >= 7:
        out += _ERROR_SESSION.pack(body.error, body.session_id)
    out += p.put_length(len(body.topics))
    for topic in body.topics:
        out += _put_topic(version, p, topic)
        out += p.put_length(len(topic.partitions))
        for fetched in topic.partitions:
            out += _FETCHED.pack(
                fetched.partition, fetched.error, fetched.high_watermark, fetched.last_stable_offset
            )
            if version >= 5:
                out += _INT64.pack(fetched.log_start)
            out += p.put_length(-1 if fetched.aborted is None else len(fetched.aborted))
            for aborted in fetched.aborted or ():
                out += _ABORTED.pack(aborted.producer_id, aborted.first_offset) + p.no_tags
            if version >= 11:
                out += _INT32.pack(fetched.preferred_read_replica)
            length = -1 if fetched.records is None else piece_length(fetched.records)
            out += p.put_length(length)
            if fetched.records is not None and length:
                pieces += (out, fetched.records)
                out = bytearray()
            out += p.no_tags
        out += p.no_tags
    out += p.no_tags
    if out:
        pieces.append(out)
    return pieces
