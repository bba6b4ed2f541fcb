"""Columns become exactly the bytes that the plain encoder writes record by record."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.broker.wire.batch import CODECS, BatchFields, check_batch, stamp
from tailrace.broker.wire.encode import encode_batch, encode_batches
from tailrace.broker.wire.reference import decode_simple, encode_simple
from tailrace.event import HEADERS, SCHEMA
from tests.support.wire_rows import NOW, Row, records_of, rows_of, tables


@settings(max_examples=400, deadline=None)
@given(tables(), st.integers(0, 2**40), st.booleans())
def test_is_byte_for_byte_the_plain_encoder(table: list[Row], base_offset: int, transactional: bool):
    fields = BatchFields(
        base_offset=base_offset,
        producer_id=7,
        producer_epoch=3,
        base_sequence=11,
        transactional=transactional,
    )
    batch = encode_batch(
        rows_of(table),
        base_offset=base_offset,
        producer_id=7,
        producer_epoch=3,
        base_sequence=11,
        transactional=transactional,
    )
    assert bytes(batch) == encode_simple(records_of(table, base_offset), fields)


@settings(max_examples=100, deadline=None)
@given(tables(), st.data())
def test_a_slice_is_encoded_as_if_it_were_alone(table: list[Row], data: st.DataObject):
    first = data.draw(st.integers(0, len(table) - 1))
    count = data.draw(st.integers(1, len(table) - first))
    mask = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    rows = rows_of(table).slice(first, count)
    assert bytes(encode_batch(rows)) == encode_simple(records_of(table[first : first + count]))
    kept = [row for row, keep in zip(table[first : first + count], mask, strict=True) if keep]
    if kept:
        assert bytes(encode_batch(rows.filter(pa.array(mask)))) == encode_simple(records_of(kept))


@settings(max_examples=200, deadline=None)
@given(tables(most=400), st.data())
def test_several_batches_at_once_are_what_each_would_be_alone(table: list[Row], data: st.DataObject):
    cuts = data.draw(st.sets(st.integers(1, len(table)), max_size=4))
    ends = sorted(cuts | {len(table)})
    codec = data.draw(st.sampled_from(CODECS))
    fields = [BatchFields(codec=codec, producer_id=7, producer_epoch=1, base_sequence=n) for n in ends]
    batches = encode_batches(rows_of(table), ends, fields)
    for start, end, of_batch, batch in zip([0, *ends[:-1]], ends, fields, batches, strict=True):
        assert bytes(batch) == encode_simple(records_of(table[start:end]), of_batch)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("count", [1, 49, 50, 3000])
def test_every_codec_comes_back(codec: str, count: int):
    table: list[Row] = [(None, b"GET /%d HTTP/1.1" % n, None, NOW + n) for n in range(count)]
    batch = encode_batch(rows_of(table), codec=codec)
    assert check_batch(batch).codec == codec
    assert decode_simple(batch) == records_of(table)
    assert codec == "none" or count < 50 or len(batch) < count * 15


def test_the_widest_batches_of_each_length_width():
    for size in (0, 1, 57, 58, 59, 8180, 8190, 1_048_560, 1_048_580):
        table: list[Row] = [(None, b"x" * size, None, NOW)] * 50
        assert bytes(encode_batch(rows_of(table))) == encode_simple(records_of(table)), size


def test_more_rows_than_two_bytes_count():
    table: list[Row] = [(b"k", b"v", [("h", b"1")], NOW)] * 20_000
    assert bytes(encode_batch(rows_of(table))) == encode_simple(records_of(table))


def test_what_a_null_row_of_a_map_still_points_to_is_not_sent():
    full = pa.array([[("a", b"1")]] * 60, HEADERS)
    valid = pa.array([n % 2 == 0 for n in range(60)])
    holes = pa.Array.from_buffers(
        HEADERS,
        60,
        [valid.buffers()[1], full.buffers()[1]],
        children=[full.values if hasattr(full, "values") else full.field(0)],
    )
    table: list[Row] = [(None, b"x", None, NOW)] * 60
    rows = rows_of(table)
    rows = pa.RecordBatch.from_arrays([*rows.columns[:2], holes, *rows.columns[3:]], schema=SCHEMA)
    expected: list[Row] = [(None, b"x", [("a", b"1")] if n % 2 == 0 else None, NOW) for n in range(60)]
    assert bytes(encode_batch(rows)) == encode_simple(records_of(expected))


@pytest.mark.parametrize("count", [1, 60])
def test_offset_and_epoch_can_be_set_in_place(count: int):
    table: list[Row] = [(None, b"x", None, NOW)] * count
    batch = encode_batch(rows_of(table))
    stamp(batch, 0, 1234, 5)
    header = check_batch(batch)
    assert (header.base_offset, header.leader_epoch, header.last_offset) == (1234, 5, 1233 + count)
