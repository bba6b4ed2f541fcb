"""From a whole fetch to columns: every batch checked, control and aborted ones left out, all records at once.

Hostile input ends in Corrupt, never in a wrong row: each batch has its CRC checked, each record its bounds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tailrace.broker.wire.batch import HEADER_SIZE, AbortedTxn, BatchHeader, check_batch, headers
from tailrace.broker.wire.boundaries import record_starts
from tailrace.broker.wire.compression import decompress
from tailrace.broker.wire.control import ABORT, read_control
from tailrace.broker.wire.header_columns import header_column
from tailrace.broker.wire.reference import SimpleRecord, decode_section
from tailrace.broker.wire.varint import I64, Loads, WideVarint
from tailrace.broker.wire.views import Ranges, gathered
from tailrace.errors import Corrupt
from tailrace.event import HEADERS, TIMESTAMP, make_rows

FETCH_CAP = 256 * 2**20
"""Bytes that what is decoded at once may decompress to."""
_FEW_ROWS = 24
_PADDING = 16


@dataclass(frozen=True, slots=True)
class Decoded:
    """rows: the visible records of SCHEMA, position = offset, or None when there are none; next_offset:
    where to go on; whole: False when batches of the fetch are left, and decoding it from there gives them.
    """

    rows: pa.RecordBatch | None
    next_offset: int
    whole: bool = True


@dataclass(frozen=True, slots=True)
class _Section:
    header: BatchHeader
    data: memoryview


def decode_fetch(
    buf: bytes | bytearray | memoryview,
    *,
    start: int,
    aborted: Sequence[AbortedTxn] = (),
    read_committed: bool = False,
    cap: int = FETCH_CAP,
    enough: int | None = None,
) -> Decoded:
    """The records at offset `start` and after, of the whole batches in `buf` (a partial one at the tail
    is left).

    aborted   the transactions that the broker says were aborted within this range; used under read_committed
    enough    bytes of records after which it stops (None: never): compressed ones may be many times the fetch
    """
    whole = memoryview(buf).toreadonly()
    sections: list[_Section] = []
    next_offset = start
    size = 0
    for at, header, visible in _batches(whole, start, aborted if read_committed else ()):
        if enough is not None and size >= enough:
            return Decoded(_rows(sections, start), next_offset, whole=False)
        next_offset = max(next_offset, header.next_offset)
        if not visible or not header.count or header.next_offset <= start:
            continue
        packed = whole[at + HEADER_SIZE : at + header.size]
        data = memoryview(decompress(header.codec, packed, cap - size))
        size += len(data)
        sections.append(_Section(header, data))
    return Decoded(_rows(sections, start) if sections else None, next_offset)


def _batches(
    buf: memoryview, start: int, aborted: Sequence[AbortedTxn]
) -> Iterator[tuple[int, BatchHeader, bool]]:
    """Every whole batch, and whether its records are for the reader: no markers, nothing aborted.

    Checked but for rows before `start`, which nobody reads.
    """
    waiting = sorted(aborted, key=lambda txn: txn.first_offset, reverse=True)
    void: set[int] = set()
    for at, header in headers(buf):
        if header.next_offset > start or header.is_control:
            check_batch(buf, at)
        while waiting and waiting[-1].first_offset <= header.last_offset:
            void.add(waiting.pop().producer_id)
        if header.is_control:
            marker = read_control(buf, at)
            if marker.type == ABORT:
                void.discard(header.producer_id)
        yield (
            at,
            header,
            not header.is_control and not (header.is_transactional and header.producer_id in void),
        )


def _rows(sections: Sequence[_Section], start: int) -> pa.RecordBatch | None:
    if sum(section.header.count for section in sections) < _FEW_ROWS:
        rows = _plain(sections)
    else:
        try:
            rows = _columns(sections)
        except WideVarint:
            rows = _plain(sections)
    positions = rows.column("position").to_numpy()
    if len(positions) > 1 and not bool((positions[1:] > positions[:-1]).all()):
        raise Corrupt("the offsets of a fetch do not rise")
    first = int(np.searchsorted(positions, start))
    return rows.slice(first) if first < len(positions) else None


def _plain(sections: Sequence[_Section]) -> pa.RecordBatch:
    records: list[SimpleRecord] = []
    for section in sections:
        records += decode_section(section.data, section.header)
    return make_rows(
        pa.array([record.value for record in records], pa.binary()),
        np.array([record.offset for record in records], np.int64),
        pa.array([record.timestamp for record in records], pa.int64()).cast(TIMESTAMP),
        key=pa.array([record.key for record in records], pa.binary()),
        headers=pa.array([list(record.headers) or None for record in records], HEADERS),
    )


def _columns(sections: Sequence[_Section]) -> pa.RecordBatch:
    arena, spans = _arena(sections)
    loads = Loads(arena)
    found = [
        record_starts(arena, loads, begin, end, section.header.count)
        for section, (begin, end) in zip(sections, spans, strict=True)
    ]
    at = np.concatenate([starts for starts, _ in found])
    ends = np.concatenate([ends for _, ends in found])
    counts = np.array([section.header.count for section in sections])

    time, at = loads.varints(at + 1, ends)
    delta, at = loads.varints(at, ends)
    key_size, at = loads.varints(at, ends)
    key_at, at = _field(at, key_size, ends)
    body_size, at = loads.varints(at, ends)
    body_at, at = _field(at, body_size, ends)
    headers_count, at = loads.varints(at, ends)

    buffer = pa.py_buffer(arena)
    return make_rows(
        _values(arena, buffer, body_at, body_size),
        _offsets(sections, counts, delta),
        _times(sections, counts, time),
        key=None if int(key_size.max()) < 0 else _values(arena, buffer, key_at, key_size),
        headers=header_column(arena, buffer, loads, headers_count, at, ends),
    )


def _arena(sections: Sequence[_Section]) -> tuple[npt.NDArray[np.uint8], list[tuple[int, int]]]:
    """All sections in one buffer, with room behind for loads of 8 bytes; and where each one lies."""
    size = sum(len(section.data) for section in sections)
    if size + _PADDING >= 2**31:
        raise Corrupt(f"a fetch of {size} bytes of records")
    arena = np.empty(size + _PADDING, np.uint8)
    arena[size:] = 0
    spans = []
    at = 0
    for section in sections:
        end = at + len(section.data)
        arena[at:end] = np.frombuffer(section.data, np.uint8)
        spans.append((at, end))
        at = end
    return arena, spans


def _field(at: I64, size: I64, ends: I64) -> tuple[I64, I64]:
    """(where the field begins, what is behind it); a size of -1 is null."""
    behind = at + np.maximum(size, 0)
    if int(size.min()) < -1 or bool((behind > ends).any()):
        raise Corrupt("a record's field reaches behind the record")
    return at, behind


def _values(arena: npt.NDArray[np.uint8], buffer: pa.Buffer, starts: I64, sizes: I64) -> pa.Array:
    valid = None
    if int(sizes.min()) < 0:
        valid = pa.array(sizes >= 0).buffers()[1]
        sizes = np.maximum(sizes, 0)
    return gathered(Ranges(arena, buffer, starts, sizes), valid)


def _offsets(sections: Sequence[_Section], counts: I64, delta: I64) -> I64:
    last = np.repeat(np.array([section.header.last_offset_delta for section in sections]), counts)
    if bool((delta < 0).any() or (delta > last).any()):
        raise Corrupt("a record's offset lies outside its batch")
    return np.repeat(np.array([section.header.base_offset for section in sections], np.int64), counts) + delta


def _times(sections: Sequence[_Section], counts: I64, delta: I64) -> pa.Array:
    heads = [section.header for section in sections]
    base = np.array(
        [head.max_timestamp if head.log_append_time else head.base_timestamp for head in heads], np.int64
    )
    if any(head.log_append_time for head in heads):
        delta = np.where(np.repeat(np.array([head.log_append_time for head in heads]), counts), 0, delta)
    lowest = int(base.min()) + min(int(delta.min()), 0)
    highest = int(base.max()) + max(int(delta.max()), 0)
    if lowest < -(2**63) or highest >= 2**63:
        raise Corrupt("a record's timestamp is larger than 64 bits")
    return pa.Array.from_buffers(TIMESTAMP, len(delta), [None, pa.py_buffer(np.repeat(base, counts) + delta)])
