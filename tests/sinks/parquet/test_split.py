from collections import defaultdict
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.event import HEADERS, TIMESTAMP, Partition, make_rows
from tailrace.sinks.parquet.split import split, timeless
from tailrace.sinks.parquet.template import LAST_MS, escape, parse_template

TOPIC = Partition("topic", "id", 3, "weblogs")
FILE = Partition("file", "id", 0, "/var/log/a.log")
HOUR = 3_600_000


def rows_of(times, headers=None):
    n = len(times)
    return make_rows(
        pa.array([b"%d" % i for i in range(n)], pa.binary()),
        np.arange(n),
        pa.array(times, TIMESTAMP),
        headers=None if headers is None else pa.array(headers, HEADERS),
    )


def shares(text, rows, partition=TOPIC):
    found = list(split(parse_template(text), rows, partition))
    assert len({share.directory for share in found}) == len(found)
    return {share.directory: share.rows.column("position").to_pylist() for share in found}


def test_rows_of_one_hour_are_not_copied():
    rows = rows_of([HOUR + 5, HOUR, 2 * HOUR - 1])
    (share,) = split(parse_template("/l/%{topic}-%{partition}/%H"), rows, TOPIC)
    assert share.directory == "weblogs-3/01"
    assert share.rows is rows


def test_time_that_moves_on_makes_slices_not_copies():
    rows = rows_of([0, 1, HOUR, HOUR + 1, 3 * HOUR])
    found = list(split(parse_template("/l/%H"), rows, TOPIC))
    assert [share.directory for share in found] == ["00", "01", "03"]
    addresses = {share.rows.column("position").buffers()[1].address for share in found}
    assert addresses == {rows.column("position").buffers()[1].address}


def test_rows_that_jump_about_keep_their_order_in_each_directory():
    assert shares("/l/%H", rows_of([HOUR, 0, HOUR, 0, HOUR])) == {"01": [0, 2, 4], "00": [1, 3]}


def test_two_days_of_one_month_are_one_directory():
    assert shares("/l/%Y-%m", rows_of([0, 24 * HOUR, 40 * 24 * HOUR])) == {"1970-01": [0, 1], "1970-02": [2]}


def test_headers_and_time_together():
    headers = [[("h", b"a")], [("h", b"b")], None, [("x", b"a")], [("h", b"a")]]
    found = shares("/l/h=%{h}/%H", rows_of([0, 0, 0, HOUR, HOUR], headers), FILE)
    missing = f"h={escape(None)}"
    assert found == {"h=a/00": [0], "h=b/00": [1], f"{missing}/00": [2], f"{missing}/01": [3], "h=a/01": [4]}


def test_topic_is_the_origin_for_topics_and_a_header_for_files():
    headers = [[("topic", b"../../etc")]]
    assert shares("/l/%{topic}", rows_of([0], headers)) == {"weblogs": [0]}
    assert shares("/l/%{topic}", rows_of([0], headers), FILE) == {"%2E.%2F..%2Fetc": [0]}


@pytest.mark.parametrize("time", [None, -1, LAST_MS + 1])
def test_only_paths_with_time_need_one(time):
    rows = rows_of([0, time, 5])
    assert timeless(parse_template("/l/%{topic}"), rows) is None
    assert timeless(parse_template("/l/%H"), rows).tolist() == [False, True, False]
    assert timeless(parse_template("/l/%H"), rows.slice(2)) is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, LAST_MS) | st.integers(0, 5 * HOUR),
            st.none() | st.binary(max_size=3),
            st.booleans(),
        ),
        max_size=40,
    )
)
def test_every_row_is_in_the_directory_that_its_own_values_say(rows):
    headers = [None if odd else [("h", value)] if value is not None else [] for _, value, odd in rows]
    expected = defaultdict(list)
    for at, (ms, value, odd) in enumerate(rows):
        moment = datetime.fromtimestamp(ms // 1000, UTC)
        text = escape(None if odd else value)
        expected[f"{moment.year:04d}{moment:-%m-%d/%H}/h={text}"].append(at)
    table = rows_of([ms for ms, _, _ in rows], headers)
    assert shares("/l/%Y-%m-%d/%H/h=%{h}", table) == dict(expected)
