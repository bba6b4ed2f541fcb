"""Deadlines against a plain dict of them."""

import random

from tailrace.broker.coordinator.timers import Timers


def test_each_key_is_due_once_at_its_last_deadline() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 10)
    timers.set("b", 20)
    timers.set("a", 30)
    timers.set("c", 5)
    timers.set("c", None)
    assert timers.next() == 20
    assert timers.pop(19) is None
    assert timers.pop(25) == "b"
    assert timers.pop(29) is None
    assert timers.pop(30) == "a"
    assert timers.next() is None
    assert len(timers) == 0


def test_a_deadline_may_come_nearer() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 50)
    timers.set("a", 10)
    assert timers.next() == 10
    assert timers.pop(10) == "a"
    assert timers.pop(1000) is None


def test_random_histories_agree_with_a_dict() -> None:
    for seed in range(50):
        chance = random.Random(seed)
        timers: Timers[int] = Timers()
        model: dict[int, int] = {}
        for now in range(300):
            for _ in range(3):
                key = chance.randrange(8)
                if chance.random() < 0.15:
                    timers.set(key, None)
                    model.pop(key, None)
                else:
                    deadline = now + chance.randrange(1, 40)
                    timers.set(key, deadline)
                    model[key] = deadline
            assert timers.next() == min(model.values(), default=None), seed
            due = {key for key, deadline in model.items() if deadline <= now}
            popped = set()
            while (key := timers.pop(now)) is not None:
                assert key not in popped
                popped.add(key)
            assert popped == due, seed
            for key in due:
                del model[key]


def test_keys_that_come_and_go_leave_nothing_behind() -> None:
    timers: Timers[int] = Timers()
    timers.set(-1, 10**9)
    for key in range(20_000):
        timers.set(key, 10**6 + key)
        timers.set(key, None)
    assert len(timers) == 1
    assert len(timers._heap) < 3_000
    assert timers.next() == 10**9
    assert timers.pop(10**9) == -1
