"""The budget that all connections share."""

from tailrace.broker.server.memory import Memory


def test_leases_are_granted_until_the_budget_is_used_up_and_then_in_order_of_arrival() -> None:
    memory, granted = Memory(100), []
    assert memory.lease("a", 60, lambda: granted.append("a"))
    assert not memory.lease("b", 50, lambda: granted.append("b"))
    assert not memory.lease("c", 10, lambda: granted.append("c"))
    assert memory.scarce
    memory.release(60)
    assert granted == ["b", "c"]
    assert memory.used == 60


def test_what_is_larger_than_the_whole_budget_is_let_in_alone() -> None:
    memory, granted = Memory(100), []
    assert memory.lease("a", 10, lambda: None)
    assert not memory.lease("big", 500, lambda: granted.append("big"))
    memory.release(10)
    assert granted == ["big"]
    assert not memory.lease("b", 1, lambda: granted.append("b"))
    memory.release(500)
    assert granted == ["big", "b"]


def test_idle_buffers_are_dropped_oldest_first_when_somebody_needs_the_room() -> None:
    memory, dropped = Memory(100), []
    for owner in ("a", "b"):
        assert memory.lease(owner, 10, lambda: None)
        assert memory.keep_idle(owner, 10, lambda owner=owner: dropped.append(owner))
    assert memory.lease("c", 90, lambda: None)
    assert dropped == ["a"]
    memory.reuse("b")
    assert not memory.lease("d", 1, lambda: None)
    assert dropped == ["a"]


def test_a_buffer_that_is_a_large_part_of_the_budget_is_not_kept() -> None:
    memory = Memory(100)
    assert memory.lease("a", 50, lambda: None)
    assert not memory.keep_idle("a", 50, lambda: None)


def test_nothing_is_kept_idle_while_somebody_waits() -> None:
    memory, granted = Memory(100), []
    assert memory.lease("a", 10, lambda: None)
    assert not memory.lease("b", 95, lambda: granted.append("b"))
    assert not memory.keep_idle("a", 10, lambda: None)
    memory.release(10)
    assert granted == ["b"]


def test_an_owner_that_is_gone_leaves_the_queue_and_its_idle_buffer() -> None:
    memory, granted = Memory(100), []
    assert memory.lease("a", 10, lambda: None)
    assert memory.keep_idle("a", 10, lambda: None)
    assert memory.lease("b", 80, lambda: None)
    memory.reuse("a")
    assert not memory.lease("c", 30, lambda: granted.append("c"))
    assert not memory.lease("d", 15, lambda: granted.append("d"))
    memory.forget("c")
    assert granted == []
    memory.release(10)
    assert granted == ["d"]
    assert memory.keep_idle("d", 12, lambda: None)
    memory.forget("d")
    memory.release(80)
    memory.release(3)
    assert memory.used == 0
    assert not memory.scarce
