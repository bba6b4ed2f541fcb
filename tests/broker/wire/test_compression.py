"""The four codecs: both ways, within a cap, and nothing but Corrupt for what is damaged."""

import gzip
import random
import struct

import pyarrow as pa
import pytest

from tailrace.broker.wire.batch import CODECS, Codec
from tailrace.broker.wire.compression import compress, decompress
from tailrace.errors import Corrupt

TEXT = b"".join(b"GET /item/%d HTTP/1.1 200\n" % n for n in range(5000))
PACKED = CODECS[1:]


def xerial(data: bytes, block: int = 32 * 1024) -> bytes:
    """As snappy-java's SnappyOutputStream frames it: magic, two versions, blocks behind their sizes."""
    out = bytearray(b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1))
    for at in range(0, len(data), block):
        packed = pa.compress(data[at : at + block], codec="snappy", asbytes=True)
        out += struct.pack(">i", len(packed)) + packed
    return bytes(out)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, pa.py_buffer])
def test_what_went_in_comes_out(codec: Codec, kind: type):
    packed = compress(codec, kind(TEXT))
    assert bytes(memoryview(decompress(codec, packed, len(TEXT)))) == TEXT
    assert codec == "none" or len(memoryview(packed)) < len(TEXT) / 3


@pytest.mark.parametrize("codec", PACKED)
def test_a_byte_over_the_cap_is_refused(codec: Codec):
    with pytest.raises(Corrupt, match="more than"):
        decompress(codec, compress(codec, TEXT), len(TEXT) - 1)


@pytest.mark.parametrize("codec", PACKED)
def test_an_empty_section_is_refused(codec: Codec):
    with pytest.raises(Corrupt, match="empty"):
        decompress(codec, b"", 100)


@pytest.mark.parametrize("codec", PACKED)
def test_a_section_that_is_cut_short_is_refused(codec: Codec):
    packed = bytes(memoryview(compress(codec, TEXT)))
    for end in (1, 5, len(packed) // 2, len(packed) - 1):
        with pytest.raises(Corrupt):
            decompress(codec, packed[:end], 2 * len(TEXT))


@pytest.mark.parametrize("codec", PACKED)
def test_damage_gives_corrupt_or_other_bytes_and_nothing_else(codec: Codec):
    rng = random.Random(codec)
    packed = bytes(memoryview(compress(codec, TEXT)))
    for _ in range(500):
        wrong = bytearray(packed)
        for _ in range(rng.choice([1, 3])):
            wrong[rng.randrange(len(wrong))] = rng.randrange(256)
        try:
            plain = decompress(codec, bytes(wrong), 2 * len(TEXT))
        except Corrupt:
            continue
        assert len(memoryview(plain)) <= 2 * len(TEXT)


def test_xerial_framing_of_java_clients_is_read():
    assert decompress("snappy", xerial(TEXT), len(TEXT)) == TEXT
    assert decompress("snappy", xerial(b"short"), 100) == b"short"


def test_xerial_blocks_share_one_cap():
    with pytest.raises(Corrupt, match="more than"):
        decompress("snappy", xerial(bytes(200_000)), 199_999)


def test_broken_xerial_frames_are_refused():
    good = xerial(TEXT)
    empty = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
    for wrong in (
        good[:10],
        good[:18],
        good[:-1],
        good + b"\0\0",
        good + bytes(4),
        empty,
        empty + b"\xff" * 8,
    ):
        with pytest.raises(Corrupt):
            decompress("snappy", wrong, len(TEXT))


def test_a_snappy_size_larger_than_the_data_leaves_no_stale_tail():
    packed = bytearray(pa.compress(b"a" * 100, codec="snappy", asbytes=True))
    assert packed[0] == 100
    packed[0] = 101
    with pytest.raises(Corrupt):
        decompress("snappy", packed, 1000)


def test_gzip_of_other_writers_and_in_several_members():
    assert bytes(memoryview(decompress("gzip", gzip.compress(TEXT), len(TEXT)))) == TEXT
    two = gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])
    assert bytes(memoryview(decompress("gzip", two, len(TEXT)))) == TEXT
