import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tailrace.broker.client.sizes import cuts, row_sizes
from tailrace.broker.wire.encode import encode_batch
from tailrace.event import HEADERS, make_rows


def test_bodies_keys_and_headers_count():
    headers = pa.array([[("ab", b"123")], None, [("a", b"1"), ("b", None)], []], HEADERS)
    rows = make_rows(
        pa.array([b"x", None, b"yyy", b""]),
        np.arange(4),
        5,
        key=pa.array([b"kk", None, None, b""]),
        headers=headers,
    )
    plain = row_sizes(make_rows(pa.array([b""]), np.arange(1), 5))[0]
    assert (row_sizes(rows) - plain).tolist() == [1 + 2 + 5 + 4, 0, 3 + 3 + 8, 0]
    assert row_sizes(rows.slice(2, 1)).tolist() == row_sizes(rows).tolist()[2:3]
    assert row_sizes(rows.slice(0, 0)).tolist() == []


@given(
    st.lists(st.tuples(st.binary(max_size=300), st.none() | st.binary(max_size=20)), min_size=1, max_size=80)
)
def test_the_estimate_is_close_to_what_the_encoder_makes(values):
    rows = make_rows(
        pa.array([body for body, _ in values], pa.binary()),
        np.arange(len(values)),
        1_700_000_000_000,
        key=pa.array([key for _, key in values], pa.binary()),
    )
    encoded = len(encode_batch(rows)) - 61
    assert encoded <= row_sizes(rows).sum() <= encoded + 10 * len(values)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 100))
def test_cuts_keep_to_the_limit_and_lose_nothing(sizes, limit):
    ends = cuts(np.array(sizes, np.int64), limit)
    assert ends == sorted(set(ends))
    assert (ends[-1] if ends else 0) == len(sizes)
    for start, end in zip([0, *ends], ends, strict=False):
        assert end - start == 1 or sum(sizes[start:end]) <= limit
        assert end == len(sizes) or sum(sizes[start : end + 1]) > limit
