"""A whole fetch becomes exactly the records that the plain decoder reads."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.broker.wire.batch import CODECS, HEADER_SIZE, AbortedTxn, BatchFields, Codec, stamp
from tailrace.broker.wire.control import control_batch, read_control
from tailrace.broker.wire.decode import decode_fetch
from tailrace.broker.wire.encode import encode_batch
from tailrace.broker.wire.reference import SimpleRecord, encode_simple
from tailrace.errors import Corrupt
from tests.support.resealed import resealed
from tests.support.wire_rows import NOW, Row, records_in, records_of, rows_of, tables


def lines(count: int, first: int, text: bytes = b"line", **fields: object) -> bytearray:
    """One batch of `count` plain rows at offsets from `first` on."""
    records = [SimpleRecord(None, b"%s %d" % (text, first + n), (), NOW + n, first + n) for n in range(count)]
    return encode_simple(records, BatchFields(base_offset=first, **fields))


def bodies(rows: object) -> list[bytes | None]:
    return [record.value for record in records_in(rows)]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(tables(), st.sampled_from(CODECS), st.integers(0, 3)), min_size=1, max_size=4),
    st.data(),
)
def test_reads_what_the_plain_encoder_wrote(batches: list[tuple[list[Row], Codec, int]], data: st.DataObject):
    fetch = bytearray()
    records: list[SimpleRecord] = []
    offset = data.draw(st.integers(0, 2**40))
    for table, codec, hole in batches:
        offset += hole
        found = records_of(table, offset)
        fetch += encode_simple(found, BatchFields(codec=codec, base_offset=offset))
        records += found
        offset += len(found)
    start = data.draw(st.sampled_from([0, records[0].offset, records[len(records) // 2].offset, offset - 1]))
    decoded = decode_fetch(fetch, start=start)
    assert records_in(decoded.rows) == [record for record in records if record.offset >= start]
    assert decoded.next_offset == offset


@settings(max_examples=50, deadline=None)
@given(tables(most=300), st.data())
def test_compacted_batches_keep_the_offsets_of_what_is_left(table: list[Row], data: st.DataObject):
    records = records_of(table, 100)
    kept = data.draw(st.lists(st.sampled_from(records), min_size=1, unique_by=lambda record: record.offset))
    kept.sort(key=lambda record: record.offset)
    fetch = encode_simple(kept, BatchFields(base_offset=kept[0].offset))
    # the batch still says the last offset that it once had
    struct.pack_into(">i", fetch, 23, 100 + len(records) + 5 - kept[0].offset)
    decoded = decode_fetch(resealed(fetch), start=0)
    assert records_in(decoded.rows) == kept
    assert decoded.next_offset == 100 + len(records) + 6


def test_a_batch_that_begins_before_start_and_one_that_is_cut_off():
    fetch = lines(100, 0) + lines(100, 100)
    whole = len(fetch)
    fetch += lines(100, 200)
    for end in (whole, whole + 1, whole + 30, whole + HEADER_SIZE, len(fetch) - 1):
        decoded = decode_fetch(memoryview(fetch)[:end], start=42)
        assert bodies(decoded.rows) == [b"line %d" % n for n in range(42, 200)]
        assert decoded.next_offset == 200


def test_a_fetch_of_one_partial_batch_answers_nothing_and_stays():
    decoded = decode_fetch(lines(100, 0)[:500], start=7)
    assert (decoded.rows, decoded.next_offset) == (None, 7)
    assert decode_fetch(b"", start=7).next_offset == 7


def test_batches_that_lie_wholly_before_start_are_passed_over():
    decoded = decode_fetch(lines(10, 0) + lines(10, 10), start=10)
    assert bodies(decoded.rows) == [b"line %d" % n for n in range(10, 20)]
    assert decode_fetch(lines(10, 0), start=10).rows is None


def test_an_empty_batch_still_moves_the_offset():
    """Compaction leaves a batch without records in the place of a producer's last one."""
    fetch = lines(1, 5)
    del fetch[HEADER_SIZE:]
    struct.pack_into(">i", fetch, 8, HEADER_SIZE - 12)
    struct.pack_into(">i", fetch, 23, 4)
    struct.pack_into(">i", fetch, 57, 0)
    decoded = decode_fetch(resealed(fetch), start=5)
    assert (decoded.rows, decoded.next_offset) == (None, 10)


def transaction(first: int, producer: int, *, count: int = 60) -> bytearray:
    return lines(
        count,
        first,
        b"p%d" % producer,
        transactional=True,
        producer_id=producer,
        producer_epoch=0,
        base_sequence=0,
    )


def marker(at: int, producer: int, commit: bool) -> bytearray:
    return control_batch(
        producer_id=producer,
        producer_epoch=0,
        commit=commit,
        coordinator_epoch=9,
        timestamp=NOW,
        base_offset=at,
    )


def test_aborted_rows_and_markers_are_left_out():
    fetch = transaction(0, 1) + transaction(60, 2) + lines(60, 120) + marker(180, 1, False)
    fetch += marker(181, 2, True) + transaction(182, 1) + marker(242, 1, True)
    aborted = [AbortedTxn(1, 0)]
    decoded = decode_fetch(fetch, start=0, aborted=aborted, read_committed=True)
    positions = [record.offset for record in records_in(decoded.rows)]
    assert positions == [*range(60, 180), *range(182, 242)]
    assert decoded.next_offset == 243
    uncommitted = decode_fetch(fetch, start=0, aborted=aborted)
    assert len(bodies(uncommitted.rows)) == 240


def test_an_aborted_transaction_that_began_before_the_fetch():
    fetch = transaction(60, 1) + marker(120, 1, False) + transaction(121, 1)
    decoded = decode_fetch(fetch, start=60, aborted=[AbortedTxn(1, 3)], read_committed=True)
    assert [record.offset for record in records_in(decoded.rows)] == list(range(121, 181))


def test_two_aborted_transactions_of_one_producer():
    fetch = transaction(0, 1) + marker(60, 1, False) + transaction(61, 1) + marker(121, 1, False)
    fetch += transaction(122, 1)
    decoded = decode_fetch(fetch, start=0, aborted=[AbortedTxn(1, 61), AbortedTxn(1, 0)], read_committed=True)
    assert [record.offset for record in records_in(decoded.rows)] == list(range(122, 182))


def test_rows_of_nobodys_transaction_stay_though_their_producer_aborted():
    fetch = transaction(0, 1) + lines(60, 60, producer_id=1, producer_epoch=0, base_sequence=60)
    decoded = decode_fetch(fetch, start=0, aborted=[AbortedTxn(1, 0)], read_committed=True)
    assert [record.offset for record in records_in(decoded.rows)] == list(range(60, 120))


def test_markers_say_what_they_decided():
    assert read_control(marker(5, 1, True)).commit
    assert not read_control(marker(5, 1, False)).commit
    assert read_control(marker(5, 1, True)).coordinator_epoch == 9


@pytest.mark.parametrize("count", [3, 300])
def test_log_append_time_is_one_time_for_all(count: int):
    fetch = lines(count, 0)
    struct.pack_into(">h", fetch, 21, 0x08)
    struct.pack_into(">q", fetch, 35, NOW + 999)
    assert {record.timestamp for record in records_in(decode_fetch(resealed(fetch), start=0).rows)} == {
        NOW + 999
    }


@pytest.mark.parametrize("magic", [0, 1, 3])
@pytest.mark.parametrize("size", [20, 40, 200])
def test_other_magics_are_refused(magic: int, size: int):
    fetch = lines(10, 0)
    fetch[16] = magic
    with pytest.raises(Corrupt, match="magic"):
        decode_fetch(fetch[:size], start=0)


@pytest.mark.parametrize("count", [2, 100])
def test_a_header_name_that_is_not_utf8_is_replaced(count: int):
    table: list[Row] = [(None, b"x%d" % n, [("name", b"%d" % n)], NOW) for n in range(count)]
    fetch = bytearray(bytes(encode_batch(rows_of(table))).replace(b"name", b"n\xffme"))
    rows = decode_fetch(resealed(fetch), start=0).rows
    assert rows is not None
    assert rows.column("headers").to_pylist() == [[("n\ufffdme", b"%d" % n)] for n in range(count)]


def test_rows_full_of_zero_bytes_and_of_records():
    """What looks like a record inside a body must not become one."""
    inner = bytes(lines(40, 0)[HEADER_SIZE:])
    table: list[Row] = [
        (None, [inner, b"\0" * 50, b"\0\x10\0\0\2\1\4ab\0"][n % 3], None, NOW) for n in range(200)
    ]
    decoded = decode_fetch(encode_batch(rows_of(table)), start=0)
    assert records_in(decoded.rows) == records_of(table)


def test_one_record_with_very_many_headers():
    table: list[Row] = [(None, b"x", [("h", None)] * (100_000 if n == 5 else 1), NOW) for n in range(100)]
    decoded = decode_fetch(encode_batch(rows_of(table)), start=0)
    assert records_in(decoded.rows) == records_of(table)


def test_offsets_that_go_back_are_refused():
    batch = lines(60, 0)
    again = lines(60, 60)
    stamp(again, 0, 30, 0)
    with pytest.raises(Corrupt, match="rise"):
        decode_fetch(batch + again, start=0)


@pytest.mark.parametrize("codec", CODECS[1:])
def test_no_batch_becomes_more_than_the_cap(codec: Codec):
    records = [SimpleRecord(None, bytes(100_000), (), NOW, n) for n in range(100)]
    fetch = encode_simple(records, BatchFields(codec=codec))
    with pytest.raises(Corrupt, match="more than"):
        decode_fetch(fetch, start=0, cap=1_000_000)
    assert len(bodies(decode_fetch(fetch, start=0, cap=11_000_000).rows)) == 100


@pytest.mark.parametrize("codec", CODECS)
def test_a_fetch_that_becomes_large_is_decoded_in_parts(codec: Codec):
    fetch = transaction(0, 1) + lines(60, 60, b"x" * 1000, codec=codec) + marker(120, 1, False)
    fetch += transaction(121, 1) + lines(60, 181, b"x" * 1000, codec=codec) + lines(60, 241, codec=codec)
    positions: list[int] = []
    parts, start, whole = 0, 0, False
    while not whole:
        decoded = decode_fetch(
            fetch, start=start, aborted=[AbortedTxn(1, 0)], read_committed=True, enough=50_000
        )
        positions += [record.offset for record in records_in(decoded.rows)]
        assert decoded.next_offset > start
        parts, start, whole = parts + 1, decoded.next_offset, decoded.whole
    assert (parts, start) == (3, 301)
    assert positions == [*range(60, 120), *range(121, 301)]
