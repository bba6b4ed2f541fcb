"""Produce (API key 0) requests and answers, versions 0 to 11, by hand: the records are never copied.

Tagged fields of the answer (KIP-951, from version 10) are skipped when read and never sent: the one
broker leads.
"""

import struct
from dataclasses import dataclass, field

from tailrace.broker.wire.pieces import Buffer, Piece
from tailrace.broker.wire.primitives import Primitives, frame_reader, primitives
from tailrace.broker.wire.reader import MAX_ELEMENTS, Budget

_FLEXIBLE = 9
_ACKS_TIMEOUT = struct.Struct(">hi")
_INT32 = struct.Struct(">i")
_PARTITION_ERROR_BASE = struct.Struct(">ihq")
_INT64 = struct.Struct(">q")


@dataclass(slots=True)
class ProduceRequest:
    """`topics`: (name, [(partition, records or None)]); records are any buffers, or views into the frame
    when decoded.
    """

    transactional_id: str | None
    acks: int
    timeout_ms: int
    topics: list[tuple[str, list[tuple[int, Buffer | None]]]]


@dataclass(slots=True)
class PartitionProduced:
    """The answer for one partition. `error` is the bare number; -1 stands for offsets and times that are
    not known.
    """

    partition: int
    error: int = 0
    base_offset: int = -1
    log_append_time: int = -1
    log_start: int = -1
    record_errors: list[tuple[int, str | None]] = field(default_factory=list)
    error_message: str | None = None


@dataclass(slots=True)
class ProduceResponse:
    topics: list[tuple[str, list[PartitionProduced]]]
    throttle_ms: int = 0


@frame_reader("a Produce request")
def decode_request(version: int, body: memoryview) -> tuple[ProduceRequest, int]:
    """Corrupt when it is not a Produce request of that version, whole and nothing else."""
    p, budget, at = primitives(version >= _FLEXIBLE), Budget(MAX_ELEMENTS), 0
    transactional_id = None
    if version >= 3:
        transactional_id, at = p.nullable_string(body, at)
    acks, timeout_ms = _ACKS_TIMEOUT.unpack_from(body, at)
    count, at = p.count(body, at + 6, budget)
    topics: list[tuple[str, list[tuple[int, Buffer | None]]]] = []
    for _ in range(count):
        name, at = p.string(body, at)
        partition_count, at = p.count(body, at, budget)
        partitions: list[tuple[int, Buffer | None]] = []
        for _ in range(partition_count):
            (index,) = _INT32.unpack_from(body, at)
            length, at = p.length(body, at + 4)
            if length < 0:
                partitions.append((index, None))
            else:
                partitions.append((index, body[at : at + length]))
                at += length
            at = p.skip_tags(body, at, budget)
        at = p.skip_tags(body, at, budget)
        topics.append((name, partitions))
    at = p.skip_tags(body, at, budget)
    return ProduceRequest(transactional_id, acks, timeout_ms, topics), at


@frame_reader("a Produce response")
def decode_response(version: int, body: memoryview) -> tuple[ProduceResponse, int]:
    """Corrupt when it is not a Produce answer of that version, whole and nothing else."""
    p, budget = primitives(version >= _FLEXIBLE), Budget(MAX_ELEMENTS)
    count, at = p.count(body, 0, budget)
    topics: list[tuple[str, list[PartitionProduced]]] = []
    for _ in range(count):
        name, at = p.string(body, at)
        partition_count, at = p.count(body, at, budget)
        partitions = []
        for _ in range(partition_count):
            produced, at = _decode_partition(version, p, body, at, budget)
            partitions.append(produced)
        at = p.skip_tags(body, at, budget)
        topics.append((name, partitions))
    throttle_ms = 0
    if version >= 1:
        (throttle_ms,) = _INT32.unpack_from(body, at)
        at += 4
    at = p.skip_tags(body, at, budget)
    return ProduceResponse(topics, throttle_ms), at


def _decode_partition(
    version: int, p: Primitives, body: memoryview, at: int, budget: Budget
) -> tuple[PartitionProduced, int]:
    index, error, base_offset = _PARTITION_ERROR_BASE.unpack_from(body, at)
    at += _PARTITION_ERROR_BASE.size
    produced = PartitionProduced(index, error, base_offset)
    if version >= 2:
        (produced.log_append_time,) = _INT64.unpack_from(body, at)
        at += 8
    if version >= 5:
        (produced.log_start,) = _INT64.unpack_from(body, at)
        at += 8
    if version >= 8:
        error_count, at = p.count(body, at, budget)
        for _ in range(error_count):
            (row,) = _INT32.unpack_from(body, at)
            text, at = p.nullable_string(body, at + 4)
            at = p.skip_tags(body, at, budget)
            produced.record_errors.append((row, text))
        produced.error_message, at = p.nullable_string(body, at)
    return produced, p.skip_tags(body, at, budget)


def encode(version: int, body: ProduceRequest | ProduceResponse) -> list[Piece]:
    """Without header and size; the records of a request are pieces of their own, not copied."""
    if isinstance(body, ProduceRequest):
        return _encode_request(version, body)
    return [_encode_response(version, body)]


def _encode_request(version: int, body: ProduceRequest) -> list[Piece]:
    p = primitives(version >= _FLEXIBLE)
    if version < 3 and body.transactional_id is not None:
        raise ValueError(f"Produce version {version} has no transactional id")
    pieces: list[Piece] = []
    out = bytearray(p.put_nullable_string(body.transactional_id) if version >= 3 else b"")
    out += _ACKS_TIMEOUT.pack(body.acks, body.timeout_ms)
    out += p.put_count(len(body.topics))
    for name, partitions in body.topics:
        out += p.put_string(name)
        out += p.put_count(len(partitions))
        for index, records in partitions:
            out += _INT32.pack(index)
            out += p.put_length(-1 if records is None else len(records))
            if records is not None:
                pieces += (out, records)
                out = bytearray()
            out += p.no_tags
        out += p.no_tags
    out += p.no_tags
    if out:
        pieces.append(out)
    return pieces


def _encode_response(version: int, body: ProduceResponse) -> bytes:
    p = primitives(version >= _FLEXIBLE)
    out = bytearray(p.put_count(len(body.topics)))
    for name, partitions in body.topics:
        out += p.put_string(name)
        out += p.put_count(len(partitions))
        for produced in partitions:
            out += _PARTITION_ERROR_BASE.pack(produced.partition, produced.error, produced.base_offset)
            if version >= 2:
                out += _INT64.pack(produced.log_append_time)
            if version >= 5:
                out += _INT64.pack(produced.log_start)
            if version >= 8:
                out += p.put_count(len(produced.record_errors))
                for row, text in produced.record_errors:
                    out += _INT32.pack(row) + p.put_nullable_string(text) + p.no_tags
                out += p.put_nullable_string(produced.error_message)
            out += p.no_tags
        out += p.no_tags
    if version >= 1:
        out += _INT32.pack(body.throttle_ms)
    out += p.no_tags
    return bytes(out)
