"""From columns to one Kafka record batch: all record prefixes at once in numpy, then one native scatter.

Byte for byte what reference.py writes, which serves batches too small to be worth the vectors. Source:
Kafka's
protocol guide, "Record"; docs/adr/0002.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tailrace.broker.wire import views
from tailrace.broker.wire.batch import BatchFields, Codec, seal_header
from tailrace.broker.wire.compression import compress
from tailrace.broker.wire.reference import SimpleRecord, encode_simple
from tailrace.broker.wire.varint import I64, U64, Pieces, varint_bytes, widths, zigzag

_FEW_ROWS = 50
_WIDEST_DELTA = 2**54


def encode_batch(
    rows: pa.RecordBatch,
    *,
    codec: Codec = "none",
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    base_offset: int = 0,
) -> bytearray:
    """One v2 record batch of all rows (at least one) of tailrace.event.SCHEMA; positions are not looked at.

    Record i has offset delta i; a null timestamp is sent as -1 (no timestamp), a null body as a tombstone.
    """
    parts = encode_parts(
        rows,
        codec=codec,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        transactional=transactional,
        base_offset=base_offset,
    )
    return bytearray().join(parts)


def encode_parts(
    rows: pa.RecordBatch,
    *,
    codec: Codec = "none",
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    base_offset: int = 0,
) -> tuple[bytes | bytearray, memoryview]:
    """As encode_batch, in two buffers: header, records. A socket sends both, and nothing is copied."""
    fields = BatchFields(
        codec=codec,
        base_offset=base_offset,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        transactional=transactional,
    )
    times = rows.column("timestamp").cast(pa.int64()).fill_null(-1).to_numpy()
    deltas = times - times[0]
    if len(times) < _FEW_ROWS or int(np.abs(deltas).max()) >= _WIDEST_DELTA:
        return encode_simple(_records(rows, base_offset), fields), memoryview(b"")
    section = memoryview(compress(codec, _section(rows, deltas)))
    header = seal_header(
        section,
        fields,
        count=len(times),
        last_offset_delta=len(times) - 1,
        base_timestamp=int(times[0]),
        max_timestamp=int(times.max()),
    )
    return header, section


def _section(rows: pa.RecordBatch, time_deltas: I64) -> memoryview:
    """The records section. Columns of views, in the order in which a record has its fields."""
    n = rows.num_rows
    time = _Varints.of(time_deltas)
    offset = _Varints.of(np.arange(n))
    key = _Field.of(rows.column("key"))
    body = _Field.of(rows.column("body"))
    headers = rows.column("headers")
    count, blocks = (None, None) if headers.null_count == n else _header_blocks(headers)

    size = 1 + time.width + offset.width + key.length.width + key.sizes + body.length.width + body.sizes
    size += 1 if count is None or blocks is None else count.width + blocks.sizes
    length = _Varints.of(size)

    columns: list[views.Views] = []
    buffers: list[pa.Buffer] = []
    piece = Pieces.empty(n)
    if count is None:
        # A record ends with its header count. Where all are 0, that byte stands in front of the next record.
        piece.size[1:] = 1
    piece.put(length.bytes, length.width)
    piece.size += 1  # attributes: 0
    if (
        key.sizes.any()
        or int((piece.size + time.width + offset.width + body.length.width).max()) >= views.INLINE
    ):
        columns.append(views.of_pieces(piece))
        piece = _piece(time, offset)
        columns.append(views.of_pieces(piece))
        columns += [
            views.of_pieces(_piece(key.length)),
            key.views(buffers),
            views.of_pieces(_piece(body.length)),
        ]
    else:
        for part in (time, offset, key.length, body.length):
            piece.put(part.bytes, part.width)
        columns.append(views.of_pieces(piece))
    columns.append(body.views(buffers))
    if count is None or blocks is None:
        return views.joined(columns, buffers, tail=b"\0")
    columns += [views.of_pieces(_piece(count)), blocks.views(buffers)]
    return views.joined(columns, buffers)


@dataclass(frozen=True, slots=True)
class _Varints:
    bytes: U64
    width: I64

    @classmethod
    def of(cls, values: I64) -> "_Varints":
        coded = zigzag(values)
        return cls(varint_bytes(coded), widths(coded))


def _piece(*parts: _Varints) -> Pieces:
    piece = Pieces.empty(len(parts[0].width))
    for part in parts:
        piece.put(part.bytes, part.width)
    return piece


@dataclass(frozen=True, slots=True)
class _Field:
    """A binary column as a record has it: a varint length, -1 for null, and the bytes."""

    data: npt.NDArray[np.uint8]
    buffer: pa.Buffer
    starts: I64
    sizes: I64
    length: _Varints

    @classmethod
    def of(cls, column: pa.Array) -> "_Field":
        data, buffer, starts, sizes = views.ranges_of(column)
        if not column.null_count:
            return cls(data, buffer, starts, sizes, _Varints.of(sizes))
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        return cls(data, buffer, starts, sizes, _Varints.of(np.where(valid, sizes, -1)))

    def views(self, buffers: list[pa.Buffer]) -> views.Views:
        buffers.append(self.buffer)
        return views.of_ranges(self.data, self.starts, self.sizes, len(buffers) - 1)


def _header_blocks(headers: pa.Array) -> tuple[_Varints, _Field]:
    """(number of headers, their bytes one behind the other) of each row, from a map column."""
    offsets = np.frombuffer(headers.buffers()[1], np.int32)[
        headers.offset : headers.offset + len(headers) + 1
    ]
    first, last = int(offsets[0]), int(offsets[-1])
    names = _Field.of(headers.keys[first:last].cast(pa.binary()))
    values = _Field.of(headers.items[first:last])
    buffers: list[pa.Buffer] = []
    columns = [
        views.of_pieces(_piece(names.length)),
        names.views(buffers),
        views.of_pieces(_piece(values.length)),
        values.views(buffers),
    ]
    ends = np.zeros(last - first + 1, np.int64)
    np.cumsum(names.length.width + names.sizes + values.length.width + values.sizes, out=ends[1:])
    data = pa.py_buffer(views.joined(columns, buffers) if last > first else b"")
    row_offsets = offsets.astype(np.int64) - first
    starts, sizes = ends[row_offsets[:-1]], np.diff(ends[row_offsets])
    counts = _Varints.of(np.diff(row_offsets))
    return counts, _Field(np.frombuffer(data, np.uint8), data, starts, sizes, _Varints.of(sizes))


def _records(rows: pa.RecordBatch, base_offset: int) -> list[SimpleRecord]:
    keys, bodies = rows.column("key").to_pylist(), rows.column("body").to_pylist()
    times = rows.column("timestamp").cast(pa.int64()).fill_null(-1).to_pylist()
    headers = rows.column("headers").to_pylist()
    return [
        SimpleRecord(key, body, tuple(header or ()), time, base_offset + index)
        for index, (key, body, header, time) in enumerate(zip(keys, bodies, headers, times, strict=True))
    ]
