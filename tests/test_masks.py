import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tailrace.masks import places


@given(st.lists(st.booleans(), max_size=100), st.integers(0, 9))
def test_places_are_those_of_numpy(values: list[bool], offset: int) -> None:
    mask = np.array([True] * offset + values, np.bool_)[offset:]
    assert places(mask).tolist() == np.flatnonzero(mask).tolist()
