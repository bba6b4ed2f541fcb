import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.event import make_rows
from tailrace.sinks.parquet.columns import Origin, as_text, layout, row_group


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.none()
        | st.binary(max_size=12)
        | st.text(max_size=8).map(str.encode)
        | st.just(b"\xc3")
        | st.just(b"\xa9"),
        max_size=200,
    ),
    st.integers(0, 3),
)
def test_the_rows_that_are_not_utf8_are_found_each_and_only_they(bodies, offset):
    array = pa.array([b"\xff"] * offset + bodies, pa.binary()).slice(offset)
    text, wrong = as_text(array)
    expected = []
    for at, body in enumerate(bodies):
        try:
            (body or b"").decode()
        except UnicodeDecodeError:
            expected.append(at)
    assert wrong.tolist() == expected
    keep = [at for at in range(len(bodies)) if at not in expected]
    assert [text[at].as_py() for at in keep] == [
        None if bodies[at] is None else bodies[at].decode() for at in keep
    ]


def test_valid_text_is_not_copied():
    array = pa.array([b"a", "ü".encode(), None], pa.binary())
    text, wrong = as_text(array)
    assert len(wrong) == 0
    assert text.buffers()[2].address == array.buffers()[2].address


def test_what_a_null_hides_is_not_looked_at():
    """Arrow lets the bytes of a null be anything."""
    offsets, data = np.array([0, 1, 2], np.int32), b"\xff\xff"
    array = pa.BinaryArray.from_buffers(
        pa.binary(), 2, [pa.py_buffer(b"\2"), *map(pa.py_buffer, (offsets, data))]
    )
    assert array.to_pylist() == [None, b"\xff"]
    _, wrong = as_text(array)
    assert wrong.tolist() == [1]


def test_half_of_a_hundred_thousand_rows_wrong_is_no_recursion():
    _, wrong = as_text(pa.array([b"ok", b"\xff"] * 50_000, pa.binary()))
    assert len(wrong) == 50_000


@pytest.mark.parametrize(
    "kind, names", [("topic", ["topic", "partition", "offset"]), ("file", ["file", "position"])]
)
@pytest.mark.parametrize("body", ["string", "binary"])
@pytest.mark.parametrize("dead", [False, True])
def test_a_landed_file_has_plain_columns_that_any_reader_knows(kind, names, body, dead):
    made = layout(kind, body, dead)
    rows = make_rows(pa.array([b"x", b"y"], pa.binary()), pa.array([7, 9], pa.int64()), 5)
    table = row_group(made, [(rows, Origin("a", 1, "why")), (rows, Origin("b", 2, "why"))])
    out = io.BytesIO()
    with pq.ParquetWriter(
        out,
        made.schema,
        use_dictionary=made.dictionary,
        column_encoding=made.encodings,
        write_statistics=made.statistics,
        store_schema=False,
    ) as writer:
        writer.write_table(table)
    back = pq.read_table(out)
    assert back.column_names == ["body", *(["reason"] if dead else []), "key", "headers", "timestamp", *names]
    assert back.schema.field("body").type == (pa.binary() if dead or body == "binary" else pa.string())
    assert back.schema.field(names[0]).type == pa.string()
    assert str(back.schema.field("timestamp").type) == "timestamp[ms, tz=UTC]"
    assert back.column(names[0]).to_pylist() == ["a", "a", "b", "b"]
    assert back.column(names[-1]).to_pylist() == [7, 9, 7, 9]
    group = pq.ParquetFile(out).metadata.row_group(0)
    with_statistics = {
        group.column(i).path_in_schema for i in range(group.num_columns) if group.column(i).statistics
    }
    assert with_statistics == {"timestamp", *names, *(["reason"] if dead else [])}
