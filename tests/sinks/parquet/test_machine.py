"""The pure machine: its table is whole, and a world of landers that follow it keeps what must hold."""

import random
from dataclasses import dataclass, field

import pytest

from tailrace.sinks.parquet.machine import (
    NEXT,
    STEPS,
    Outcome,
    Seen,
    State,
    Step,
    Verdict,
    after,
    garbage,
    judge,
    step_of,
)

RIGHT, WRONG = Seen(3, "a"), Seen(3, "b")


def test_every_state_is_reached_and_every_state_with_a_step_goes_on():
    assert {*NEXT.values(), State.OPEN} == set(State)
    assert {state for state, _ in NEXT} == set(STEPS)
    assert {state for state in State if step_of(state) is None} == {
        State.PUBLISHED,
        State.DROPPED,
        State.FENCED,
        State.HALTED,
    }


@pytest.mark.parametrize("state", State)
def test_an_outcome_that_cannot_be_is_refused(state):
    for outcome in Outcome:
        if (state, outcome) not in NEXT:
            with pytest.raises(ValueError, match="after"):
                after(state, outcome)


def test_nothing_is_published_that_was_not_decided():
    """Every path into PUBLISH leads over a COMMIT that is known."""
    into = [edge for edge, state in NEXT.items() if step_of(state) is Step.PUBLISH]
    assert {outcome for _, outcome in into} == {Outcome.COMMITTED}


@pytest.mark.parametrize(
    ("staged", "final", "waited", "verdict"),
    [
        (None, RIGHT, False, Verdict.THERE),
        (RIGHT, RIGHT, False, Verdict.THERE),
        (RIGHT, None, False, Verdict.TRY),
        (RIGHT, None, True, Verdict.TRY),
        (None, None, False, Verdict.LOOK_AGAIN),
        (None, None, True, Verdict.MISSING),
        (WRONG, None, False, Verdict.DAMAGED),
        (RIGHT, WRONG, False, Verdict.FOREIGN),
        (None, WRONG, True, Verdict.FOREIGN),
    ],
)
def test_a_file_is_judged_by_looking(staged, final, waited, verdict):
    assert judge(RIGHT, staged, final, waited=waited) is verdict


def test_garbage_is_older_than_the_owner_and_needed_by_nobody():
    assert garbage([1, 2, 3, 4, 5], 4, [2]) == [1, 3]


@dataclass
class World:
    """A ledger, a store and a topic, as sets; `landed` is what decided batches cover."""

    next: int = 0
    epoch: int = 0
    batches: dict[int, tuple[int, int, str]] = field(default_factory=dict)
    staged: dict[int, int] = field(default_factory=dict)
    """batch -> epoch of its staging"""
    final: set[int] = field(default_factory=set)
    rebuilds: int = 0
    made: int = 0


class Lander:
    """One process: it acquires, recovers, and then carries batch after batch through the table."""

    def __init__(self, world: World, choose: random.Random) -> None:
        self.world, self.choose = world, choose
        self.alive = True
        self.acquire()

    def acquire(self) -> None:
        self.world.epoch += 1
        self.epoch, self.recovered, self.state = self.world.epoch, False, None

    def step(self) -> None:
        """Something of what it does next; between two steps anything may happen."""
        world = self.world
        if not self.recovered:
            undone = [batch for batch, (_, _, state) in world.batches.items() if state == "DECIDED"]
            if undone:
                self.publish(undone[0])
                return
            old = garbage({*world.staged.values()}, self.epoch, [])
            for batch in [batch for batch, epoch in world.staged.items() if epoch in old]:
                del world.staged[batch]
            self.start, self.recovered = world.next, True
        elif self.state is None:
            world.made += 1
            self.batch, self.end = world.made, self.start + self.choose.randint(1, 9)
            world.staged[self.batch] = self.epoch
            self.state = State.OPEN
        elif (step := step_of(self.state)) is None:
            landed, self.state = self.state is State.PUBLISHED, None
            if landed:
                self.start = self.end
            else:
                self.acquire()
        else:
            self.state = after(self.state, self.perform(step))

    def perform(self, step: Step) -> Outcome:
        world = self.world
        if step is Step.DECIDE:
            lost = self.choose.random() < 0.2
            there = not (lost and self.choose.random() < 0.5) and self.decide()
            return Outcome.UNKNOWN if lost else Outcome.COMMITTED if there else Outcome.REFUSED
        if step is Step.RESOLVE:
            if world.epoch != self.epoch:
                return Outcome.OUSTED
            world.epoch = self.epoch = world.epoch + 1
            return Outcome.COMMITTED if self.batch in world.batches else Outcome.ABSENT
        if step is Step.PUBLISH:
            self.publish(self.batch)
        elif step is Step.FINALIZE:
            start, end, _ = world.batches[self.batch]
            world.batches[self.batch] = (start, end, "PUBLISHED")
        elif step is Step.DISCARD:
            world.staged.pop(self.batch, None)
        return Outcome.DONE

    def decide(self) -> bool:
        world = self.world
        if world.epoch != self.epoch or world.next != self.start:
            return False
        world.batches[self.batch] = (self.start, self.end, "DECIDED")
        world.next = self.end
        return True

    def publish(self, batch: int) -> None:
        world = self.world
        staged = RIGHT if batch in world.staged else None
        verdict = judge(RIGHT, staged, RIGHT if batch in world.final else None, waited=True)
        world.rebuilds += verdict is Verdict.MISSING
        world.final.add(batch)
        if self.choose.random() < 0.8:
            world.staged.pop(batch, None)
        if not self.recovered:
            start, end, _ = world.batches[batch]
            world.batches[batch] = (start, end, "PUBLISHED")


def test_random_interleavings_of_landers_zombies_and_lost_commits_land_each_row_once():
    for seed in range(1500):
        choose = random.Random(seed)
        world = World()
        landers = [Lander(world, choose)]
        for _ in range(choose.randint(20, 120)):
            chance = choose.random()
            if chance < 0.05 or not landers:
                landers.append(Lander(world, choose))  # whoever was there before is a zombie now
            elif chance < 0.08:
                landers.pop(choose.randrange(len(landers)))
            else:
                choose.choice(landers).step()
            assert all(batch in world.batches for batch in world.final), f"seed {seed}"
        last = Lander(world, choose)
        while not last.recovered:
            last.step()
        ranges = sorted((start, end) for start, end, _ in world.batches.values())
        assert [start for start, _ in ranges] == [0, *(end for _, end in ranges)][: len(ranges)], (
            f"seed {seed}"
        )
        assert all(state == "PUBLISHED" for _, _, state in world.batches.values()), f"seed {seed}"
        assert world.final == set(world.batches), f"seed {seed}"
        assert world.rebuilds == 0, f"seed {seed}"
        assert not {epoch for epoch in world.staged.values() if epoch < last.epoch}, f"seed {seed}"
