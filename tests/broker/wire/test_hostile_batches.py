"""10,000 mutated fetches: Corrupt or the right rows, never anything else, and no memory that stays."""

import random
import struct
from collections.abc import Callable

import psutil
import pytest

from tailrace.broker.wire.batch import CODECS, HEADER_SIZE, BatchFields, check_batch, headers, read_header
from tailrace.broker.wire.control import control_batch, read_control
from tailrace.broker.wire.decode import decode_fetch
from tailrace.broker.wire.reference import SimpleRecord, decode_simple, encode_simple
from tailrace.errors import Corrupt
from tests.support.resealed import resealed
from tests.support.wire_rows import NOW, records_in

CAP = 4 * 2**20
SEED = 20261123


def a_batch(rng: random.Random, first: int) -> bytearray:
    count = rng.choice([1, 3, 30, 100, 200])
    keyed, headed = rng.random() < 0.3, rng.random() < 0.4
    same = rng.random() < 0.5
    records = [
        SimpleRecord(
            rng.randbytes(rng.randrange(20)) if keyed else None,
            rng.choice([b"a line of %d" % n, b"", rng.randbytes(30), b"\0" * 12, None]),
            (("host", b"n1"), ("n", None if same else b"%d" % n)) if headed else (),
            NOW if same else NOW + rng.randrange(10_000),
            first + n,
        )
        for n in range(count)
    ]
    return encode_simple(records, BatchFields(codec=rng.choice([*CODECS, "none", "none"]), base_offset=first))


def flip(rng: random.Random, batch: bytearray) -> None:
    batch[rng.randrange(len(batch))] ^= 1 << rng.randrange(8)


def overwrite(rng: random.Random, batch: bytearray) -> None:
    batch[rng.randrange(len(batch))] = rng.choice([0, 1, 2, 0x7F, 0x80, 0xFF, rng.randrange(256)])


def stretch(rng: random.Random, batch: bytearray) -> None:
    at = rng.randrange(HEADER_SIZE, len(batch) + 1)
    batch[at:at] = rng.randbytes(rng.randrange(1, 9)) if rng.random() < 0.5 else bytes(rng.randrange(1, 9))
    struct.pack_into(">i", batch, 8, len(batch) - 12)


def shrink(rng: random.Random, batch: bytearray) -> None:
    at = rng.randrange(HEADER_SIZE, len(batch) + 1)
    del batch[at : at + rng.randrange(1, 9)]
    struct.pack_into(">i", batch, 8, len(batch) - 12)


def swap(rng: random.Random, batch: bytearray) -> None:
    a, b, size = (rng.randrange(HEADER_SIZE, len(batch) + 1) for _ in range(3))
    batch[a : a + size % 40], batch[b : b + size % 40] = batch[b : b + size % 40], batch[a : a + size % 40]
    struct.pack_into(">i", batch, 8, len(batch) - 12)


def field(rng: random.Random, batch: bytearray) -> None:
    at, kind = rng.choice(
        [(8, "i"), (16, "b"), (21, "h"), (23, "i"), (27, "q"), (35, "q"), (43, "q"), (57, "i")]
    )
    extremes = {"b": [0, 1, 3, -1], "h": [-1, 7, 8, 0x7FFF], "i": [-1, 0, 1, 2**31 - 1, -(2**31)]}
    extremes["q"] = [-1, 0, 2**63 - 1, -(2**63)]
    struct.pack_into(f">{kind}", batch, at, rng.choice(extremes[kind]))


MUTATIONS: list[Callable[[random.Random, bytearray], None]] = [flip, overwrite, stretch, shrink, swap, field]


def plainly(fetch: bytes) -> list[SimpleRecord]:
    """What the plain decoder makes of the same bytes."""
    records: list[SimpleRecord] = []
    for at, header in headers(fetch):
        if not check_batch(fetch, at).is_control:
            records += decode_simple(fetch, at, CAP)
        else:
            read_control(fetch, at)
        assert header.base_offset >= 0
    return records


def columnar(fetch: bytes) -> list[SimpleRecord]:
    return records_in(decode_fetch(fetch, start=0, cap=CAP).rows)


def outcome(read: Callable[[bytes], list[SimpleRecord]], fetch: bytes) -> list[SimpleRecord] | None:
    """What it reads; None for Corrupt."""
    try:
        return read(fetch)
    except Corrupt:
        return None


def test_ten_thousand_mutated_fetches_give_the_right_rows_or_corrupt():
    rng = random.Random(SEED)
    fine = 0
    process = psutil.Process()
    before = 0
    for round_ in range(10_000):
        if round_ == 1000:
            before = process.memory_info().rss
        first = rng.randrange(2**40)
        batch = a_batch(rng, first)
        for _ in range(rng.choice([1, 1, 2, 4])):
            rng.choice(MUTATIONS)(rng, batch)
        if rng.random() < 0.9:
            resealed(batch)
        fetch = bytes(encode_simple([SimpleRecord(None, b"ahead", (), NOW, 0)]) + batch)
        if rng.random() < 0.05:
            fetch = fetch[: rng.randrange(len(fetch))]
        got = outcome(columnar, fetch)
        if got is not None:
            fine += 1
            assert got == plainly(fetch), f"seed {SEED}, round {round_}"
    assert fine > 500
    assert process.memory_info().rss - before < 10 * 2**20


def test_what_the_plain_decoder_reads_the_fast_one_reads_too():
    """The other way round, for mutations within the fields that leave a batch valid."""
    rng = random.Random(SEED + 1)
    refused = 0
    for _ in range(2000):
        batch = a_batch(rng, 5)
        flip(rng, batch)
        fetch = bytes(resealed(batch))
        expected = outcome(plainly, fetch)
        if expected is not None and outcome(columnar, fetch) is None:
            refused += 1
    assert refused == 0


@pytest.mark.parametrize(
    ("place", "kind", "value"),
    [
        (0, "q", -1),
        (0, "q", 2**63 - 1),
        (8, "i", 48),
        (8, "i", -1),
        (16, "b", 1),
        (21, "h", 5),
        (23, "i", -1),
        (57, "i", -1),
        (57, "i", 2**31 - 1),
    ],
)
def test_headers_that_cannot_be_are_refused(place: int, kind: str, value: int):
    batch = encode_simple([SimpleRecord(None, b"x", (), NOW, n) for n in range(3)])
    struct.pack_into(f">{kind}", batch, place, value)
    with pytest.raises(Corrupt):
        read_header(batch)


def test_one_wrong_bit_anywhere_under_the_crc_is_seen():
    batch = encode_simple([SimpleRecord(None, b"x", (), NOW, n) for n in range(3)])
    for at in range(16, len(batch)):
        for bit in range(8):
            wrong = bytearray(batch)
            wrong[at] ^= 1 << bit
            with pytest.raises(Corrupt):
                check_batch(wrong)


@pytest.mark.parametrize("record", [b"\x0a\0\0\0\1\1", b"\x02\0", b"", b"\x0c\0\0\0\x09\1\0"])
def test_control_batches_that_are_none_are_refused(record: bytes):
    batch = control_batch(producer_id=1, producer_epoch=0, commit=True, coordinator_epoch=0, timestamp=NOW)
    batch[HEADER_SIZE:] = record
    struct.pack_into(">i", batch, 8, len(batch) - 12)
    with pytest.raises(Corrupt):
        read_control(resealed(batch))
    with pytest.raises(Corrupt):
        decode_fetch(batch, start=0, read_committed=True)


def test_a_record_with_a_million_empty_headers_is_read_in_bounded_time():
    body = b"\0\0\0\1\1" + b"\x80\x89\x7a" + b"\0\1" * 1_000_000
    length = bytearray()
    size = len(body) << 1
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    batch = encode_simple([SimpleRecord(None, b"x", (), NOW, n) for n in range(100)])
    batch += bytes(length) + body
    del batch[HEADER_SIZE : HEADER_SIZE + 9]
    struct.pack_into(">i", batch, 8, len(batch) - 12)
    decoded = outcome(columnar, bytes(resealed(batch)))
    assert decoded is None or len(decoded) == 100
