"""Compaction: of each key only the last record stays, at its offset; of aborted transactions nothing does.

Kafka's rules: tombstones and markers stay for delete.retention.ms after they were first compacted (the batch keeps
that time, KIP-534), the last batch of each producer stays as an empty one so that its sequence is not forgotten,
and what belongs to an open transaction is not touched. The last offset of each segment stays too, so a log never
has holes between segments.
"""

import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import crc32c

from tailrace.broker.log import scan
from tailrace.broker.log.files import OpenFile
from tailrace.broker.log.index import OffsetIndex, TimeIndex
from tailrace.broker.log.names import CLEANED, LOG
from tailrace.broker.log.producers import Producer
from tailrace.broker.log.segment import Segment, View
from tailrace.broker.log.txn_index import Aborted
from tailrace.broker.wire.batch import HEADER_SIZE, BatchHeader
from tailrace.broker.wire.compression import compress, decompress
from tailrace.errors import Corrupt
from tailrace.failpoint import failpoint
from tailrace.fs import FileSystem

MAX_KEYS = 200_000
"""Keys that one pass can tell apart: bounds its memory to about 40 MiB."""
MAX_BATCH = 64 << 20
"""A batch that unpacks to more than this is left as it is."""
_HORIZON = 0x40
_CODEC = 0x07
_HEADER = struct.Struct(">qiibIhiqqqhii")


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a batch: what decides over it, and `rest`, its bytes from the key's length on."""

    timestamp: int
    offset_delta: int
    key: bytes | None
    tombstone: bool
    rest: bytes


@dataclass(slots=True)
class Pass:
    """What one pass knows.

    latest     digest of a key -> offset of its last record in the section that was not compacted before
    aborted    producer id -> its aborted transactions
    producers  the producers' state now
    """

    now_ms: int
    delete_retention_ms: int
    latest: Mapping[bytes, int]
    aborted: Mapping[int, Sequence[Aborted]]
    producers: Mapping[int, Producer]
    kept_open: set[int] = field(default_factory=set)
    """Producers of whose running transaction some record was kept."""


def by_producer(aborted: Iterable[Aborted]) -> dict[int, list[Aborted]]:
    found: dict[int, list[Aborted]] = {}
    for entry in aborted:
        found.setdefault(entry.producer_id, []).append(entry)
    return found


def survey(
    sections: Iterable[tuple[OpenFile, int]], aborted: Mapping[int, Sequence[Aborted]], since: int
) -> tuple[dict[bytes, int], int]:
    """The last offset of each key from `since` on, and the offset up to which MAX_KEYS sufficed.

    sections  (file, size) of the segments in order
    """
    latest: dict[bytes, int] = {}
    end = since
    for file, size in sections:
        for position, header in scan.headers(file.fd, 0, size):
            if header.last_offset < since:
                continue
            if not header.is_control and header.count and not _is_aborted(header, aborted):
                rows = _rows_or_none(file.read_at(position, header.size), header) or ()
                if len(latest) + len(rows) > MAX_KEYS and latest:
                    return latest, end
                for row in rows:
                    if row.key is not None:
                        latest[_digest(row.key)] = header.base_offset + row.offset_delta
            end = header.next_offset
    return latest, end


def rewrite(group: Sequence[tuple[Segment, OpenFile]], fs: FileSystem, what: Pass, interval: int) -> Segment:
    """Writes the records of adjacent segments that stay into `<first base>.log.cleaned`, fsynced.

    Answers the segment that will replace them, with its view open.
    """
    first = group[0][0]
    path = first.path(LOG) + CLEANED
    fd = fs.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    fresh = Segment(first.directory, first.base, created_ms=first.created_ms)
    fresh.view = View(OpenFile(path, fd), OffsetIndex(first.base), TimeIndex(first.base))
    for segment, file in group:
        for position, header in scan.headers(file.fd, 0, segment.size):
            ends = segment is group[-1][0] and position + header.size >= segment.size
            for data, written in _keep(file.read_at(position, header.size), header, what, ends):
                fs.write(fd, data)
                fresh.note(written, fresh.size, interval)
    failpoint("log.compact_written")
    fs.fsync(fd)
    return fresh


def _keep(data: bytes, header: BatchHeader, what: Pass, ends: bool) -> Iterator[tuple[bytes, BatchHeader]]:
    """The batch as it stays: whole, with fewer records, empty, or not at all."""
    if header.is_control:
        kept = _keep_marker(data, header, what)
    elif header.count == 0 or _is_aborted(header, what.aborted):
        kept = None
    else:
        kept = _keep_rows(data, header, what)
        if kept is not None and header.is_transactional:
            what.kept_open.add(header.producer_id)
    if kept is None and (ends or _is_last_of_producer(header, what.producers)):
        kept = _pack(header, header.base_timestamp, [], header.max_timestamp)
    if kept is not None:
        yield kept


def _keep_marker(data: bytes, header: BatchHeader, what: Pass) -> tuple[bytes, BatchHeader] | None:
    had_data = header.producer_id in what.kept_open
    what.kept_open.discard(header.producer_id)
    if header.count == 0:
        return None
    horizon = _horizon(header)
    if horizon is not None:
        over = horizon <= what.now_ms and not had_data and not _is_current_marker(header, what.producers)
        return None if over else (data, header)
    rows = _rows_or_none(data, header)
    if rows is None or had_data:
        return data, header
    return _pack(header, what.now_ms + what.delete_retention_ms, rows, header.max_timestamp, horizon=True)


def _keep_rows(data: bytes, header: BatchHeader, what: Pass) -> tuple[bytes, BatchHeader] | None:
    rows = _rows_or_none(data, header)
    if rows is None:
        return data, header
    horizon = _horizon(header)
    over = horizon is not None and horizon <= what.now_ms
    kept = [
        row
        for row in rows
        if row.key is None
        or (
            what.latest.get(_digest(row.key), -1) <= header.base_offset + row.offset_delta
            and not (over and row.tombstone)
        )
    ]
    if not kept:
        return None
    sets_horizon = horizon is None and any(row.tombstone for row in kept)
    if len(kept) == len(rows) and not sets_horizon:
        return data, header
    largest = header.max_timestamp if header.log_append_time else max(row.timestamp for row in kept)
    if sets_horizon:
        return _pack(header, what.now_ms + what.delete_retention_ms, kept, largest, horizon=True)
    return _pack(header, header.base_timestamp, kept, largest, horizon=horizon is not None)


def _is_aborted(header: BatchHeader, aborted: Mapping[int, Sequence[Aborted]]) -> bool:
    return header.is_transactional and any(
        entry.first_offset <= header.base_offset <= entry.last_offset
        for entry in aborted.get(header.producer_id, ())
    )


def _is_last_of_producer(header: BatchHeader, producers: Mapping[int, Producer]) -> bool:
    state = producers.get(header.producer_id) if header.producer_id >= 0 else None
    return state is not None and bool(state.written) and state.written[-1].last_offset == header.last_offset


def _is_current_marker(header: BatchHeader, producers: Mapping[int, Producer]) -> bool:
    """Whether this marker is all the log has left of the producer's epoch."""
    state = producers.get(header.producer_id)
    if state is None or state.epoch > header.producer_epoch:
        return False
    return not state.written or state.written[-1].last_offset < header.base_offset


def _horizon(header: BatchHeader) -> int | None:
    """When tombstones and markers of the batch may go (ms); None while it was never compacted (KIP-534)."""
    return header.base_timestamp if header.attributes & _HORIZON else None


def _digest(key: bytes) -> bytes:
    return blake2b(key, digest_size=16).digest()


def _rows_or_none(data: bytes, header: BatchHeader) -> list[Row] | None:
    """The batch's records; None when they cannot be read, and then the batch stays as it is."""
    try:
        section = memoryview(data)[HEADER_SIZE : header.size]
        unpacked = memoryview(
            section if header.codec == "none" else decompress(header.codec, section, MAX_BATCH)
        )
        rows = []
        at = 0
        for _ in range(header.count):
            length, at = _varint(unpacked, at)
            if length < 0 or at + length > unpacked.nbytes:
                return None
            rows.append(_row(bytes(unpacked[at : at + length]), header.base_timestamp))
            at += length
        return rows if at == unpacked.nbytes else None
    except (Corrupt, IndexError):
        return None


def _row(data: bytes, base_timestamp: int) -> Row:
    timestamp, at = _varint(data, 1)
    offset_delta, rest = _varint(data, at)
    length, at = _varint(data, rest)
    key = data[at : at + length] if length >= 0 else None
    value, _ = _varint(data, at + max(0, length))
    return Row(base_timestamp + timestamp, offset_delta, key, value < 0, data[rest:])


def _varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """A zig-zag varint of up to ten bytes and where it ends; IndexError past the data."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7
        if shift > 63:
            raise IndexError


def _put_varint(value: int) -> bytes:
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _pack(
    header: BatchHeader, base_timestamp: int, rows: Sequence[Row], largest: int, *, horizon: bool = False
) -> tuple[bytes, BatchHeader]:
    """A batch in the place of `header`'s: same offsets, sequence and producer, these records only."""
    parts = []
    for row in rows:
        body = b"\0" + _put_varint(row.timestamp - base_timestamp) + _put_varint(row.offset_delta) + row.rest
        parts.append(_put_varint(len(body)) + body)
    section: bytes | memoryview = b"".join(parts)
    attributes = header.attributes & ~_HORIZON | (_HORIZON if horizon else 0)
    if not rows:
        attributes &= ~_CODEC
    elif header.codec != "none":
        section = bytes(compress(header.codec, section))
    fields = [
        header.base_offset,
        HEADER_SIZE - 12 + len(section),
        header.leader_epoch,
        header.magic,
        0,
        attributes,
        header.last_offset_delta,
        base_timestamp,
        largest,
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
        len(rows),
    ]
    packed = _HEADER.pack(*fields)
    fields[4] = crc32c.crc32c(section, crc32c.crc32c(packed[21:]))
    return _HEADER.pack(*fields) + section, BatchHeader(*fields)
