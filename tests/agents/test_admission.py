"""What a sink takes of what comes: every position once, in order, of the current assignment only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace.agents.admission import Admission
from tailrace.errors import Corrupt
from tailrace.event import EventBatch, Record
from tests.support.doubles import batch, partition

P = partition()


def positions(taken: EventBatch | None) -> list[int]:
    return [] if taken is None else taken.rows.column("position").to_pylist()


def test_rows_the_sink_has_are_cut_off() -> None:
    admission = Admission()
    admission.assign([P], {P: Record(15)}, 1)
    assert positions(admission.admit(batch(P, 0, 10, 1))) == []
    assert positions(admission.admit(batch(P, 10, 20, 1))) == [15, 16, 17, 18, 19]
    assert positions(admission.admit(batch(P, 20, 22, 1))) == [20, 21]


def test_a_new_partition_may_start_anywhere() -> None:
    admission = Admission()
    admission.assign([P], {}, 1)
    assert positions(admission.admit(batch(P, 40, 42, 1))) == [40, 41]


def test_a_hole_is_corrupt_and_says_which_positions_are_missing() -> None:
    admission = Admission()
    admission.assign([P], {P: Record(10)}, 1)
    with pytest.raises(Corrupt, match=r"positions 10 to 12 are missing before a batch that ends at 20"):
        admission.admit(batch(P, 12, 20, 1))


@pytest.mark.parametrize("number", [0, 1, 3])
def test_batches_of_another_assignment_are_dropped(number: int) -> None:
    admission = Admission()
    admission.assign([P], {P: Record(0)}, 2)
    assert admission.admit(batch(P, 0, 10, number)) is None
    assert positions(admission.admit(batch(P, 0, 2, 2))) == [0, 1]


def test_after_revoke_and_clear_nothing_is_taken() -> None:
    admission = Admission()
    admission.assign([P, partition("q")], {}, 1)
    admission.revoke([P])
    assert admission.admit(batch(P, 0, 10, 1)) is None
    admission.clear()
    assert admission.admit(batch(partition("q"), 0, 10, 1)) is None


def test_a_new_state_at_the_next_position_is_taken() -> None:
    admission = Admission()
    admission.assign([P], {P: Record(10)}, 1)
    renamed = admission.admit(batch(P, 10, 10, 1, state=b"renamed"))
    assert renamed is not None and renamed.state == b"renamed"
    assert admission.admit(batch(P, 9, 9, 1, state=b"old")) is None
    assert positions(admission.admit(batch(P, 10, 12, 1))) == [10, 11]


def test_an_empty_span_of_a_new_partition_is_taken() -> None:
    admission = Admission()
    admission.assign([P], {}, 1)
    assert admission.admit(batch(P, 500, 500, 1)) is not None
    assert positions(admission.admit(batch(P, 500, 501, 1))) == [500]


@given(
    stored=st.integers(0, 60),
    reads=st.lists(
        st.tuples(st.integers(0, 60), st.lists(st.integers(0, 9), max_size=6)), min_size=1, max_size=5
    ),
)
def test_however_often_a_source_is_sought_back_each_position_is_taken_once(
    stored: int, reads: list[tuple[int, list[int]]]
) -> None:
    admission = Admission()
    admission.assign([P], {P: Record(stored)}, 1)
    taken: list[int] = []
    for start, sizes in reads:
        at = min(start, stored + len(taken))  # a source is never sought beyond what its sinks have
        for size in sizes:
            taken += positions(admission.admit(batch(P, at, at + size, 1)))
            at += size
    assert taken == list(range(stored, stored + len(taken)))
