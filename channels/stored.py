"""How the `file` channel writes one put: rows and what is known of their source, in one record batch under one CRC.

The first record of every batch is not a row: its value is JSON that says where the source now stands, and how
much of the channel was durable when it was written. A segment's first batch has only that record, and it names
every source.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailrace.broker.wire.batch import HEADER_SIZE, BatchHeader, Codec, check_batch, headers
from tailrace.broker.wire.compression import decompress
from tailrace.broker.wire.decode import decode_fetch
from tailrace.broker.wire.encode import encode_batch
from tailrace.broker.wire.reference import read_varint
from tailrace.errors import Corrupt
from tailrace.event import TIMESTAMP, EventBatch, Partition, Record, constant_timestamp, make_rows, no_rows

_VERSION = 1
_CAP = 1 << 30
"""Bytes that one put may decompress to."""


@dataclass(frozen=True, slots=True)
class Note:
    """What the first record of a batch says.

    sources    next position and state of the batch's source; in a snapshot, of every source
    durable    everything below this offset of the channel was fsynced when the batch was written
    snapshot   the batch begins a segment
    """

    sources: Mapping[Partition, Record] = field(default_factory=dict)
    durable: int = 0
    snapshot: bool = False


def encode(batch: EventBatch, durable: int, codec: Codec) -> bytearray | memoryview:
    """One record batch: the note, then the rows."""
    note = Note({batch.partition: Record(batch.span.end, batch.state)}, durable)
    return encode_batch(_with_note(batch.rows, note), codec=codec)


def encode_snapshot(sources: Mapping[Partition, Record], durable: int) -> bytearray | memoryview:
    """The batch that begins a segment."""
    return encode_batch(_with_note(no_rows(), Note(sources, durable, True)))


def _with_note(rows: pa.RecordBatch, note: Note) -> pa.RecordBatch:
    """The note's record looks like the first row but for its body: columns that are all alike stay so."""
    body = pa.array([_to_json(note)], pa.binary())
    if rows.num_rows == 0:
        return make_rows(body, np.zeros(1, np.int64), constant_timestamp(0, 1))
    columns = [
        pa.concat_arrays([body if name == "body" else column.slice(0, 1), column])
        for name, column in zip(rows.schema.names, rows.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


def decode(data: bytes | memoryview, start: int) -> tuple[pa.RecordBatch, int]:
    """(rows at offset `start` and after, without the notes; the offset after the last batch).

    Positions are the channel's offsets. Corrupt when a batch is damaged, or does not follow the one before it.
    """
    first_offsets = []
    expected, end = None, 0
    for at, header in headers(data):
        if expected is not None and header.base_offset != expected:
            raise Corrupt(f"the batch at byte {at} begins at {header.base_offset}, {expected} is next")
        first_offsets.append(header.base_offset)
        expected, end = header.next_offset, at + header.size
    if end != len(data):
        raise Corrupt(f"the batch at byte {end} is longer than what is there")
    if expected is None or not first_offsets[0] <= start < expected:
        raise Corrupt(f"offset {start} is not in batches from {first_offsets[:1]} to {expected}")
    rows = decode_fetch(data, start=start, cap=_CAP).rows
    if rows is None:
        return no_rows(), expected
    positions = rows.column("position").to_numpy()
    if len(first_offsets) == 1:
        rows = rows.slice(int(np.searchsorted(positions, first_offsets[0], side="right")))
    else:
        rows = rows.filter(pa.array(~np.isin(positions, first_offsets)))
    return _without_time(rows), expected


def _without_time(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Rows that had no time come back without one: on disk that is -1."""
    times = rows.column("timestamp").cast(pa.int64())
    if not rows.num_rows or pc.min(times).as_py() != -1:
        return rows
    at = rows.schema.get_field_index("timestamp")
    mended = pc.if_else(pc.equal(times, -1), pa.scalar(None, pa.int64()), times).cast(TIMESTAMP)
    return rows.set_column(at, rows.schema.field(at), mended)


def read_note(data: bytes | memoryview, at: int = 0) -> Note:
    """The note of the batch at `at`. Corrupt when it is damaged, or the batch has none."""
    header = check_batch(data, at)
    section = _section(memoryview(data)[at + HEADER_SIZE : at + header.size], header)
    end = len(section)
    _, at = read_varint(section, 0, end)
    _, at = read_varint(section, at + 1, end)
    _, at = read_varint(section, at, end)
    key, at = read_varint(section, at, end)
    size, at = read_varint(section, at + max(key, 0), end)
    if size < 0 or at + size > end:
        raise Corrupt(f"the batch at offset {header.base_offset} does not begin with a note")
    return _from_json(bytes(section[at : at + size]), header)


def _section(packed: memoryview, header: BatchHeader) -> memoryview:
    return packed if header.codec == "none" else memoryview(decompress(header.codec, packed, _CAP)).cast("B")


def _to_json(note: Note) -> bytes:
    sources = [
        {
            "kind": partition.kind,
            "id": partition.id,
            "number": partition.number,
            "name": partition.name,
            "position": record.position,
            "state": None if record.state is None else base64.b64encode(record.state).decode(),
        }
        for partition, record in note.sources.items()
    ]
    stored: dict[str, Any] = {"version": _VERSION, "durable": note.durable, "sources": sources}
    return json.dumps(stored | ({"snapshot": True} if note.snapshot else {})).encode()


def _from_json(text: bytes, header: BatchHeader) -> Note:
    try:
        stored = json.loads(text)
        if stored["version"] != _VERSION:
            raise Corrupt(f"the batch at offset {header.base_offset} was written by a newer version")
        sources = {
            Partition(s["kind"], s["id"], s["number"], s["name"]): Record(
                s["position"], None if s["state"] is None else base64.b64decode(s["state"])
            )
            for s in stored["sources"]
        }
        return Note(sources, stored["durable"], stored.get("snapshot", False))
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"the note at offset {header.base_offset} cannot be read: {error}") from None
