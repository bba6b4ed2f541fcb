"""Producer ids are given once, whatever is claimed, lost and seen."""

import pytest

from tailrace.broker.coordinator.producer_ids import BLOCK, ProducerIds


def test_no_id_is_given_before_its_block_is_claimed() -> None:
    ids = ProducerIds(0)
    with pytest.raises(ValueError, match="claim"):
        ids.take()
    ids.claimed(ids.claim())
    assert [ids.take() for _ in range(BLOCK)] == list(range(BLOCK))
    assert ids.left == 0


def test_a_restart_skips_what_is_left_of_the_block() -> None:
    ids = ProducerIds(0)
    end = ids.claim()
    ids.claimed(end)
    ids.take()
    again = ProducerIds(end)
    again.claimed(again.claim())
    assert again.take() == end


def test_an_id_in_use_elsewhere_is_not_given() -> None:
    ids = ProducerIds(0)
    ids.seen(4711)
    assert ids.left == 0
    ids.claimed(ids.claim())
    assert ids.take() == 4712
    ids.seen(5)
    assert ids.take() == 4713
