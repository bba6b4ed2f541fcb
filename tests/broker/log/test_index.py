"""The bytes of both indexes, and that look-ups never land behind what is sought."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.broker.log import txn_index
from tailrace.broker.log.index import OffsetIndex, TimeIndex
from tailrace.broker.log.txn_index import Aborted
from tailrace.errors import Corrupt


def test_the_bytes_are_kafkas():
    offsets, times = OffsetIndex(100), TimeIndex(100)
    offsets.append(107, 4096)
    times.offer(1_700_000_000_000, 107)
    assert offsets.data == struct.pack(">ii", 7, 4096)
    assert times.data == struct.pack(">qi", 1_700_000_000_000, 7)
    assert txn_index.encode([Aborted(1, 2, 3, 4)]) == struct.pack(">hqqqq", 0, 1, 2, 3, 4)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 999)), max_size=40), st.integers(0, 500))
def test_an_offset_is_never_before_the_place_the_scan_starts(steps, sought):
    index, offset, position, entries = OffsetIndex(1000), 1000, 0, []
    for by, size in steps:
        offset, position = offset + by, position + size
        index.append(offset, position)
        entries.append((offset, position))
    found = index.at_or_before(1000 + sought)
    assert found == max([p for o, p in entries if o <= 1000 + sought], default=0)
    assert index.boundary(sought) == max([p for _, p in entries if p <= sought], default=0)


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(0, 60))
def test_no_record_as_late_as_sought_is_before_the_place_the_scan_starts(times, sought):
    index, largest, at = TimeIndex(0), -1, 0
    for offset, time in enumerate(times):
        if time > largest:
            largest, at = time, offset
        index.offer(largest, at)
    start = index.before(sought)
    late = [offset for offset, time in enumerate(times) if time >= sought]
    assert not late or start <= late[0]


@pytest.mark.parametrize(
    "data", [b"\0" * 7, struct.pack(">iiii", 5, 10, 5, 20), struct.pack(">iiii", 5, 10, 6, 10), bytes(16)]
)
def test_an_offset_index_that_cannot_be_right_is_refused(data):
    with pytest.raises(ValueError, match=r"multiple|rise"):
        OffsetIndex(0, data)


@pytest.mark.parametrize(
    "data", [b"\0" * 13, struct.pack(">qiqi", 5, 1, 5, 2), struct.pack(">qiqi", 5, 9, 6, 2), bytes(24)]
)
def test_a_time_index_that_cannot_be_right_is_refused(data):
    with pytest.raises(ValueError, match=r"multiple|rise"):
        TimeIndex(0, data)


@pytest.mark.parametrize(
    "entry",
    [
        b"\0" * 33,
        struct.pack(">hqqqq", 1, 1, 2, 3, 4),
        struct.pack(">hqqqq", 0, 1, 5, 3, 4),
        struct.pack(">hqqqq", 0, 1, -1, 3, 4),
    ],
)
def test_a_transaction_index_that_cannot_be_right_is_corrupt(entry):
    with pytest.raises(Corrupt):
        txn_index.decode(entry, "x.txnindex")
