"""Kafka's four codecs over pyarrow's, with a cap on what a stranger's bytes may become.

snappy is read raw and in the xerial framing of Java clients, and written raw (every client reads it).
"""

import struct
from typing import Any

import pyarrow as pa

from tailrace.broker.wire.batch import Codec
from tailrace.errors import Corrupt

Buffer = Any
"""bytes, bytearray, memoryview or pa.Buffer (which has no types of its own)."""

_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER = 16
_LZ4_BLOCK = 1 << 16
_LZ4_HEADER = b"\x04\x22\x4d\x18\x60\x40\x82"
"""Magic, version 1 with independent blocks, blocks of 64 KiB, checksum of these two bytes."""
_LZ4_STORED = 1 << 31
_STREAMS = {"gzip": "gzip", "lz4": "lz4", "zstd": "zstd"}


def compress(codec: Codec, data: Buffer) -> Buffer:
    """`data` as one frame of the codec; `none` gives it back."""
    if codec == "none":
        return data
    if codec == "snappy":
        return pa.compress(
            data, codec="snappy", asbytes=True
        )  # a Buffer of it tells memoryview a wrong length
    if codec == "lz4":
        return _lz4_frame(memoryview(data))
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, _STREAMS[codec]) as stream:
        stream.write(data)
    return sink.getvalue()


def _lz4_frame(data: memoryview) -> bytes:
    """Blocks that do not depend on each other: Apache Kafka reads no others, and pyarrow's own frames have
    them."""
    parts: list[bytes | memoryview] = [_LZ4_HEADER]
    for start in range(0, len(data), _LZ4_BLOCK):
        plain = data[start : start + _LZ4_BLOCK]
        packed: bytes = pa.compress(plain, codec="lz4_raw", asbytes=True)
        if len(packed) < len(plain):
            parts += (len(packed).to_bytes(4, "little"), packed)
        else:
            parts += ((len(plain) | _LZ4_STORED).to_bytes(4, "little"), plain)
    parts.append(bytes(4))
    return b"".join(parts)


def decompress(codec: Codec, data: Buffer, cap: int) -> Buffer:
    """The records section; Corrupt when it is empty, damaged, or would be larger than `cap` bytes."""
    if codec == "none":
        return data
    if not len(memoryview(data)):
        raise Corrupt(f"an empty {codec} section")
    try:
        plain = _unsnappy(memoryview(data), cap) if codec == "snappy" else _stream(codec, data, cap)
    except (OSError, pa.ArrowException, ValueError) as error:
        raise Corrupt(f"a {codec} section does not decompress: {error}") from error
    if not len(memoryview(plain)):
        raise Corrupt(f"a {codec} section with nothing in it")
    return plain


def _stream(codec: Codec, data: Buffer, cap: int) -> Buffer:
    with pa.CompressedInputStream(pa.BufferReader(pa.py_buffer(data)), _STREAMS[codec]) as stream:
        plain = stream.read_buffer(cap + 1)
        plain = plain.slice(
            0, plain.size
        )  # shrunk in place, the buffer itself tells memoryview its old length
    if plain.size > cap:
        raise Corrupt(f"a {codec} section decompresses to more than {cap} bytes")
    return plain


def _unsnappy(data: memoryview, cap: int) -> Buffer:
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        return _raw_snappy(data, cap)
    if len(data) < _XERIAL_HEADER:
        raise Corrupt("a xerial snappy header is cut short")
    blocks = []
    left = cap
    at = _XERIAL_HEADER
    while at < len(data):
        if len(data) - at < 4:
            raise Corrupt("a xerial snappy block size is cut short")
        (size,) = struct.unpack_from(">I", data, at)
        at += 4
        if size == 0 or size > len(data) - at:
            raise Corrupt(f"a xerial snappy block says {size} bytes, {len(data) - at} are left")
        block = _raw_snappy(data[at : at + size], left)
        left -= len(memoryview(block))
        blocks.append(block)
        at += size
    return b"".join(blocks)


def _raw_snappy(data: memoryview, cap: int) -> Buffer:
    """Snappy says its size in front; asking for just that makes the codec check it (more leaves a stale
    tail).
    """
    size = shift = at = 0
    while True:
        if at >= len(data) or at > 4:
            raise Corrupt("a snappy block's size is cut short")
        byte = data[at]
        size |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if not byte & 0x80:
            break
    if size > cap:
        raise Corrupt(f"a snappy block decompresses to {size} bytes, more than {cap}")
    return pa.decompress(data, decompressed_size=size, codec="snappy")
