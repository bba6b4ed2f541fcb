"""The 61-byte header of a Kafka record batch (magic 2), its checks, and its CRC.

Base offset and leader epoch lie outside the CRC, so a broker sets them in place without touching the rest.
Source: Kafka's protocol guide, "Record Batch".
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import crc32c

from tailrace.errors import Corrupt

Codec = Literal["none", "gzip", "snappy", "lz4", "zstd"]
CODECS: tuple[Codec, ...] = ("none", "gzip", "snappy", "lz4", "zstd")

HEADER_SIZE = 61
LENGTH_END = 12
"""Bytes before what the length field counts."""
CRC_START = 21
"""The CRC covers the batch from here to its end."""

_CODEC_MASK = 0x07
_LOG_APPEND_TIME = 0x08
_TRANSACTIONAL = 0x10
_CONTROL = 0x20

_LARGEST = 2**63 - 1
_MAGIC = 16
_HEADER = struct.Struct(">qiibIhiqqqhii")


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """The fields of one batch, as on the wire; `length` counts from byte 12."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch, header included."""
        return LENGTH_END + self.length

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def codec(self) -> Codec:
        return CODECS[self.attributes & _CODEC_MASK]

    @property
    def log_append_time(self) -> bool:
        """True when every record's time is max_timestamp (message.timestamp.type=LogAppendTime)."""
        return bool(self.attributes & _LOG_APPEND_TIME)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & _TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & _CONTROL)


@dataclass(frozen=True, slots=True)
class AbortedTxn:
    """A transaction that ended in an abort: data of this producer from first_offset to its marker is void."""

    producer_id: int
    first_offset: int


def read_header(buf: bytes | bytearray | memoryview, at: int = 0) -> BatchHeader:
    """The header at `at`. Corrupt when the bytes are too few or a field cannot be; the CRC is not looked
    at.
    """
    if at < 0 or len(buf) - at < HEADER_SIZE:
        raise Corrupt(
            f"a record batch header needs {HEADER_SIZE} bytes, {max(len(buf) - at, 0)} are left at byte {at}"
        )
    header = BatchHeader(*_HEADER.unpack_from(buf, at))
    if header.magic != 2:
        raise Corrupt(f"record batch at byte {at}: magic {header.magic} is not supported, only 2")
    if header.length < HEADER_SIZE - LENGTH_END:
        raise Corrupt(f"record batch at byte {at}: length {header.length} is less than a header")
    if not 0 <= header.base_offset <= _LARGEST - header.last_offset_delta:
        raise Corrupt(f"record batch at byte {at}: base offset {header.base_offset} cannot be")
    if header.count < 0 or header.last_offset_delta < 0 or header.count > header.last_offset_delta + 1:
        raise Corrupt(
            f"record batch at byte {at}: {header.count} records, the last delta {header.last_offset_delta}"
        )
    if not header.count and header.size > HEADER_SIZE:
        raise Corrupt(f"record batch at byte {at}: no records, in {header.size - HEADER_SIZE} bytes")
    if header.attributes & _CODEC_MASK >= len(CODECS):
        raise Corrupt(f"record batch at byte {at}: unknown codec {header.attributes & _CODEC_MASK}")
    return header


def check_batch(buf: bytes | bytearray | memoryview, at: int = 0) -> BatchHeader:
    """The header of a whole batch at `at` whose CRC-32C is right; Corrupt otherwise."""
    header = read_header(buf, at)
    if len(buf) - at < header.size:
        raise Corrupt(f"record batch at byte {at} says {header.size} bytes, {len(buf) - at} are there")
    with memoryview(buf) as whole, whole[at + CRC_START : at + header.size] as covered:
        crc = crc32c.crc32c(covered)
    if crc != header.crc:
        raise Corrupt(f"record batch at byte {at}: CRC-32C is {crc:08x}, the header says {header.crc:08x}")
    return header


def headers(buf: bytes | bytearray | memoryview) -> Iterator[tuple[int, BatchHeader]]:
    """(byte, header) of each whole batch; ends before a partial one at the tail, as a fetch may have.

    Corrupt for anything but magic 2, whole or not (messages of magic 0 and 1 may be shorter than a header).
    """
    at = 0
    while len(buf) - at >= HEADER_SIZE:
        header = read_header(buf, at)
        if len(buf) - at < header.size:
            return
        yield at, header
        at += header.size
    if len(buf) - at > _MAGIC and buf[at + _MAGIC] != 2:
        raise Corrupt(f"record batch at byte {at}: magic {buf[at + _MAGIC]} is not supported, only 2")


def stamp(buf: bytearray | memoryview, at: int, base_offset: int, leader_epoch: int) -> None:
    """Sets the two fields outside the CRC, in place."""
    struct.pack_into(">q", buf, at, base_offset)
    struct.pack_into(">i", buf, at + LENGTH_END, leader_epoch)


@dataclass(frozen=True, slots=True)
class BatchFields:
    """What a writer of a batch chooses; the rest follows from the records."""

    codec: Codec = "none"
    base_offset: int = 0
    leader_epoch: int = -1
    producer_id: int = -1
    producer_epoch: int = -1
    base_sequence: int = -1
    transactional: bool = False
    control: bool = False

    @property
    def attributes(self) -> int:
        return CODECS.index(self.codec) | _TRANSACTIONAL * self.transactional | _CONTROL * self.control


def seal_header(
    records: bytes | bytearray | memoryview,
    fields: BatchFields,
    *,
    count: int,
    last_offset_delta: int,
    base_timestamp: int,
    max_timestamp: int,
) -> bytearray:
    """The header, CRC and all, of the batch whose records section (compressed already, when it is) is
    `records`.
    """
    header = bytearray(HEADER_SIZE)
    _HEADER.pack_into(
        header,
        0,
        fields.base_offset,
        HEADER_SIZE + len(records) - LENGTH_END,
        fields.leader_epoch,
        2,
        0,
        fields.attributes,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        fields.producer_id,
        fields.producer_epoch,
        fields.base_sequence,
        count,
    )
    crc = crc32c.crc32c(records, crc32c.crc32c(bytes(header[CRC_START:])))
    struct.pack_into(">I", header, CRC_START - 4, crc)
    return header


def seal(
    records: bytes | bytearray | memoryview,
    fields: BatchFields,
    *,
    count: int,
    last_offset_delta: int,
    base_timestamp: int,
    max_timestamp: int,
) -> bytearray:
    """A whole batch in one piece: the header, then the records section."""
    batch = seal_header(
        records,
        fields,
        count=count,
        last_offset_delta=last_offset_delta,
        base_timestamp=base_timestamp,
        max_timestamp=max_timestamp,
    )
    batch += records
    return batch
