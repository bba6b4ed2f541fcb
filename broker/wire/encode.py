"""From columns to one Kafka record batch: all record prefixes at once in numpy, then one native scatter.

Byte for byte what reference.py writes, which serves batches too small to be worth the vectors.
Source: Kafka's protocol guide, "Record".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from tailrace.broker.wire.batch import HEADER_SIZE, BatchFields, Codec, seal, seal_header
from tailrace.broker.wire.compression import compress
from tailrace.broker.wire.reference import SimpleRecord, encode_headers, encode_simple
from tailrace.broker.wire.varint import I64, U64, Pieces, varint_bytes, widths, zigzag
from tailrace.broker.wire.views import INLINE, Bytes, Ranges, joined

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
) -> bytearray | memoryview:
    """One v2 record batch of all rows (at least one) of tailrace.event.SCHEMA; positions are not looked at.

    Record i has offset delta i; a null timestamp is sent as -1 (no timestamp), a null body as a tombstone.
    The records must come to less than 2 GiB. The answer is writable.
    """
    fields = BatchFields(
        codec=codec,
        base_offset=base_offset,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        transactional=transactional,
    )
    return encode_batches(rows, [rows.num_rows], [fields])[0]


def encode_batches(
    rows: pa.RecordBatch, ends: Sequence[int], fields: Sequence[BatchFields]
) -> list[bytearray | memoryview]:
    """As encode_batch, a batch for rows [0, ends[0]), one for [ends[0], ends[1]), ... with fields of its own
    each, of one codec. The vectors are made once for all of them.
    """
    column = rows.column("timestamp").cast(pa.int64())
    times = (column.fill_null(-1) if column.null_count else column).to_numpy()
    starts = [0, *ends[:-1]]
    cut = list(zip(starts, ends, fields, strict=True))
    least, largest = int(times.min()), int(times.max())
    if len(times) < _FEW_ROWS or largest - least >= _WIDEST_DELTA:
        return [_plainly(rows.slice(start, end - start), of_batch) for start, end, of_batch in cut]
    codec = fields[0].codec
    if least == largest:
        deltas = np.zeros(1, np.int64)
    else:
        deltas = times - np.repeat(times[starts], np.diff([*starts, ends[-1]]))
    parts = _sections(rows, ends, deltas, HEADER_SIZE if codec == "none" else 0)
    batches: list[bytearray | memoryview] = []
    for (start, end, of_batch), part in zip(cut, parts, strict=True):
        shape = {
            "count": end - start,
            "last_offset_delta": end - start - 1,
            "base_timestamp": int(times[start]),
            "max_timestamp": int(times[start:end].max()),
        }
        if codec != "none":
            batches.append(seal(memoryview(compress(codec, part.data)), of_batch, **shape))
            continue
        header = seal_header(part[HEADER_SIZE:].data, of_batch, **shape)
        part[:HEADER_SIZE] = np.frombuffer(header, np.uint8)
        batches.append(part.data)
    return batches


def _sections(rows: pa.RecordBatch, ends: Sequence[int], time_deltas: I64, lead: int) -> list[Bytes]:
    """For each batch `lead` bytes, then its records section: all in one buffer."""
    n, starts = rows.num_rows, [0, *ends[:-1]]
    time = _Varints.of(time_deltas)
    offset = _counted_each([end - start for start, end in zip(starts, ends, strict=True)])
    key = _Field.of(rows.column("key"))
    body = _Field.of(rows.column("body"))
    count, headers = _headers(rows.column("headers"))

    size = 1 + time.width + offset.width + key.size + body.size + count.width
    if headers is not None:
        size = size + headers.sizes
    length = _Varints.of(size)

    records = _Records.of(n)
    if headers is None:
        # A record ends with its header count. Where all are 0, that byte stands in front of the next record.
        records.piece.size[:] = 1
        records.piece.size[starts] = 0
        records.widest = 1
    for part in (length, _Varints.of(np.zeros(1, np.int64)), time, offset):
        records.put(part)
    records.put_field(key)
    records.put_field(body)
    if headers is not None:
        records.put(count)
        records.put_bytes(headers)
    buffer = records.joined(ends, lead, tail=b"\0" if headers is None else b"")
    bounds = np.cumsum(np.add.reduceat(length.width + size, starts) + lead).tolist()
    return [buffer[begin:end] for begin, end in zip([0, *bounds[:-1]], bounds, strict=True)]


def _plainly(rows: pa.RecordBatch, fields: BatchFields) -> bytearray:
    return encode_simple(_records(rows, fields.base_offset), fields)


@dataclass(frozen=True, slots=True)
class _Varints:
    """One for each row, or a single one for all of them."""

    bytes: U64
    width: I64

    @classmethod
    def of(cls, values: I64) -> "_Varints":
        coded = zigzag(values)
        return cls(varint_bytes(coded), widths(coded))


def _counted_each(counts: Sequence[int]) -> _Varints:
    """The offset deltas 0, 1, ..., count - 1 of each batch."""
    counted = _counted(1 << (max(counts) - 1).bit_length())
    if len(counts) == 1:
        return _Varints(counted.bytes[: counts[0]], counted.width[: counts[0]])
    return _Varints(
        np.concatenate([counted.bytes[:count] for count in counts]),
        np.concatenate([counted.width[:count] for count in counts]),
    )


@lru_cache(maxsize=8)
def _counted(n: int) -> _Varints:
    return _Varints.of(np.arange(n))


@dataclass(frozen=True, slots=True)
class _Field:
    """A binary column as a record has it: a varint length, -1 for null, and the bytes."""

    length: _Varints
    content: Ranges | None

    @classmethod
    def of(cls, column: pa.Array) -> "_Field":
        if column.null_count == len(column):
            return cls(_Varints.of(np.full(1, -1)), None)
        ranges = Ranges.of(column)
        told = ranges.sizes
        if column.null_count:
            told = np.where(column.is_valid().to_numpy(zero_copy_only=False), told, -1)
        return cls(_Varints.of(told), ranges)

    @property
    def size(self) -> I64:
        return self.length.width if self.content is None else self.length.width + self.content.sizes


@dataclass(slots=True)
class _Records:
    """n records being written side by side, in columns of up to 12 bytes a row or of ranges of a buffer."""

    piece: Pieces
    widest: int
    columns: list[Pieces | Ranges]

    @classmethod
    def of(cls, n: int) -> "_Records":
        return cls(Pieces.empty(n), 0, [])

    def put(self, part: _Varints) -> None:
        width = int(part.width.max())
        if self.widest + width > INLINE:
            self._end_piece()
        self.piece.put(part.bytes, part.width)
        self.widest += width

    def put_bytes(self, ranges: Ranges) -> None:
        self._end_piece()
        self.columns.append(ranges)

    def put_field(self, field: _Field) -> None:
        self.put(field.length)
        if field.content is not None:
            self.put_bytes(field.content)

    def joined(self, ends: Sequence[int], lead: int = 0, tail: bytes = b"") -> Bytes:
        self._end_piece()
        return joined(self.columns, ends, lead=lead, tail=tail)

    def _end_piece(self) -> None:
        if self.widest:
            self.columns.append(self.piece)
            self.piece, self.widest = Pieces.empty(len(self.piece.size)), 0


def _headers(headers: pa.Array) -> tuple[_Varints, Ranges | None]:
    """(number of headers, their bytes) of each row of a map column; None when no row has one."""
    none = _Varints.of(np.zeros(1, np.int64)), None
    if headers.null_count == len(headers):
        return none
    offsets = np.frombuffer(headers.buffers()[1], np.int32)[headers.offset :][: len(headers) + 1]
    rows = offsets.astype(np.int64)
    first, last = int(rows[0]), int(rows[-1])
    counts = np.diff(rows)
    if headers.null_count:
        counts = np.where(headers.is_valid().to_numpy(zero_copy_only=False), counts, 0)
    if not counts.any():
        return none
    names, values = headers.keys[first:last].cast(pa.binary()), headers.items[first:last]
    if _repeats(names, counts) and _repeats(values, counts):
        few = int(counts[0])
        block = encode_headers(
            list(zip(headers.keys[first : first + few].to_pylist(), values[:few].to_pylist(), strict=True))
        )
        starts, sizes = np.zeros(len(counts), np.int64), np.full(len(counts), len(block))
        return _Varints.of(counts[:1]), Ranges.of_bytes(bytes(block), starts, sizes)
    name, value = _Field.of(names), _Field.of(values)
    entries = _Records.of(last - first)
    entries.put_field(name)
    entries.put_field(value)
    ends = np.zeros(last - first + 1, np.int64)
    np.cumsum(name.size + value.size, out=ends[1:])
    starts = ends[rows[:-1] - first]
    sizes = ends[rows[:-1] - first + counts] - starts
    return _Varints.of(counts), Ranges.of_bytes(entries.joined([last - first]), starts, sizes)


def _repeats(column: pa.Array, counts: I64) -> bool:
    """True when each row has the same number of these values, and the same ones (a file's name, a host)."""
    n, few = len(counts), int(counts[0])
    if column.null_count or len(column) != n * few or not bool((counts == few).all()):
        return False
    ranges = Ranges.of(column)
    grid = ranges.sizes.reshape(n, few)
    begin, length = int(ranges.starts[0]), int(grid[0].sum())
    if not bool((grid == grid[0]).all()):
        return False
    content = ranges.data[begin : begin + n * length].reshape(n, length)
    return bool((content == content[0]).all())


def _records(rows: pa.RecordBatch, base_offset: int) -> list[SimpleRecord]:
    keys, bodies = rows.column("key").to_pylist(), rows.column("body").to_pylist()
    times = rows.column("timestamp").cast(pa.int64()).fill_null(-1).to_pylist()
    headers = rows.column("headers").to_pylist()
    return [
        SimpleRecord(key, body, tuple(header or ()), time, base_offset + index)
        for index, (key, body, header, time) in enumerate(zip(keys, bodies, headers, times, strict=True))
    ]
