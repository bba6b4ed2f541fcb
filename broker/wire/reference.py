"""Record batches one record at a time, in plain Python: the judge of the fast paths, and the way for
small batches.

Coordinator records and `__tailrace_positions` go through here; rows do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tailrace.broker.wire.batch import HEADER_SIZE, BatchFields, BatchHeader, check_batch, seal
from tailrace.broker.wire.compression import compress, decompress
from tailrace.errors import Corrupt

SMALL_CAP = 64 * 2**20
"""Bytes that the records section of one batch may decompress to here."""


@dataclass(frozen=True, slots=True)
class SimpleRecord:
    """One record; timestamp in ms since the epoch, offset absolute."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int = 0
    offset: int = 0


def write_varint(out: bytearray, value: int) -> None:
    """Zigzag varint of a signed number of up to 64 bits, as Kafka's records have."""
    rest = (value << 1) ^ (value >> 63)
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)


def read_varint(buf: memoryview, at: int, end: int) -> tuple[int, int]:
    """(value, byte after it); Corrupt past `end` or after ten bytes."""
    rest = shift = 0
    while True:
        if at >= end or shift > 63:
            raise Corrupt(f"a varint at byte {at} does not end")
        byte = buf[at]
        rest |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if not byte & 0x80:
            break
    if rest >> 64:
        raise Corrupt(f"a varint before byte {at} is larger than 64 bits")
    return (rest >> 1) ^ -(rest & 1), at


def encode_simple(records: Sequence[SimpleRecord], fields: BatchFields | None = None) -> bytearray:
    """One batch. Offsets and times are told relative to the first record; offsets must rise."""
    fields = fields or BatchFields()
    base_offset = records[0].offset
    base_timestamp = records[0].timestamp
    section = bytearray()
    for record in records:
        body = encode_record(record, record.timestamp - base_timestamp, record.offset - base_offset)
        write_varint(section, len(body))
        section += body
    return seal(
        memoryview(compress(fields.codec, section)),
        fields,
        count=len(records),
        last_offset_delta=records[-1].offset - base_offset,
        base_timestamp=base_timestamp,
        max_timestamp=max(record.timestamp for record in records),
    )


def encode_record(record: SimpleRecord, timestamp_delta: int, offset_delta: int) -> bytearray:
    """A record without its length."""
    body = bytearray(1)
    write_varint(body, timestamp_delta)
    write_varint(body, offset_delta)
    for part in (record.key, record.value):
        _write_bytes(body, part)
    write_varint(body, len(record.headers))
    return body + encode_headers(record.headers)


def encode_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytearray:
    """The headers of a record without their number."""
    block = bytearray()
    for name, value in headers:
        _write_bytes(block, name.encode())
        _write_bytes(block, value)
    return block


def _write_bytes(out: bytearray, data: bytes | None) -> None:
    write_varint(out, -1 if data is None else len(data))
    out += data or b""


def decode_simple(
    buf: bytes | bytearray | memoryview, at: int = 0, cap: int = SMALL_CAP
) -> list[SimpleRecord]:
    """The records of the batch at `at`, CRC checked. Corrupt when anything is wrong."""
    header = check_batch(buf, at)
    if not header.count:
        return []
    packed = memoryview(buf)[at + HEADER_SIZE : at + header.size]
    return decode_section(memoryview(bytes(decompress(header.codec, packed, cap))), header)


def decode_section(section: memoryview, header: BatchHeader) -> list[SimpleRecord]:
    """The records of a decompressed section; Corrupt unless they fill it to the byte and agree with the
    header.
    """
    records = []
    at = 0
    last_delta = -1
    for _ in range(header.count):
        size, at = read_varint(section, at, len(section))
        end = at + size
        if size < 0 or end > len(section):
            raise Corrupt(f"a record at byte {at} says {size} bytes, {len(section) - at} are left")
        record, delta = _decode_record(section, at, end, header)
        if not last_delta < delta <= header.last_offset_delta:
            raise Corrupt(
                f"record offset delta {delta} after {last_delta}, the last is {header.last_offset_delta}"
            )
        last_delta = delta
        records.append(record)
        at = end
    if at != len(section):
        raise Corrupt(f"{len(section) - at} bytes behind the last record of a batch")
    return records


def _decode_record(buf: memoryview, at: int, end: int, header: BatchHeader) -> tuple[SimpleRecord, int]:
    timestamp_delta, at = read_varint(buf, at + 1, end)
    delta, at = read_varint(buf, at, end)
    key, at = _read_bytes(buf, at, end)
    value, at = _read_bytes(buf, at, end)
    count, at = read_varint(buf, at, end)
    if not 0 <= count <= end - at:
        raise Corrupt(f"a record with {count} headers in {end - at} bytes")
    headers = decode_headers(buf, at, end, count)
    timestamp = header.max_timestamp if header.log_append_time else header.base_timestamp + timestamp_delta
    if not -(2**63) <= timestamp < 2**63:
        raise Corrupt(f"a record's timestamp {timestamp} is larger than 64 bits")
    return SimpleRecord(key, value, tuple(headers), timestamp, header.base_offset + delta), delta


def decode_headers(buf: memoryview, at: int, end: int, count: int) -> list[tuple[str, bytes | None]]:
    """`count` headers that fill buf[at:end]; Corrupt when they do not."""
    headers = []
    for _ in range(count):
        name, at = _read_bytes(buf, at, end)
        content, at = _read_bytes(buf, at, end)
        if name is None:
            raise Corrupt("a record header without a name")
        headers.append((name.decode(errors="replace"), content))
    if at != end:
        raise Corrupt(f"{end - at} bytes behind the headers of a record")
    return headers


def _read_bytes(buf: memoryview, at: int, end: int) -> tuple[bytes | None, int]:
    size, at = read_varint(buf, at, end)
    if size == -1:
        return None, at
    if size < 0 or at + size > end:
        raise Corrupt(f"a field at byte {at} says {size} bytes, {end - at} are left")
    return bytes(buf[at : at + size]), at + size
