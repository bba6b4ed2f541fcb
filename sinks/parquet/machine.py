"""The landing state machine: what is done next with a batch, and what an outcome leads to. Pure.

    OPEN -seal-> STAGED -decide-> DECIDED -publish-> PLACED -finalize-> PUBLISHED

The ledger's transaction is the only commit point. Before it everything is garbage if we crash; after it
everything is a redo that anyone may run, any number of times. An illegal outcome raises, and changes nothing.
"""

import enum
from collections.abc import Collection, Mapping
from typing import NamedTuple


class State(enum.Enum):
    OPEN = "rows are being written into staging"
    STAGED = "files are closed, durable, sized and checksummed"
    UNSURE = "the reply to COMMIT was lost"
    DECIDED = "the ledger has the batch"
    PLACED = "every file is at its final path, and its name is durable"
    REFUSED = "the ledger refused the batch: it was fenced"
    ABSENT = "the lost COMMIT was none: the batch is not in the ledger, and never will be"
    PUBLISHED = "the ledger has it as published"
    DROPPED = "its rows must be read again"
    FENCED = "somebody else lands these partitions"
    HALTED = "only a person can go on"


class Step(enum.Enum):
    """What the lander has to do in a state. It may be repeated as long as it has no outcome."""

    SEAL = "close, fsync, size and checksum every file"
    DECIDE = "the ledger's transaction"
    RESOLVE = "bump the epoch, then look whether the batch is there"
    PUBLISH = "give every file its final name, and make the names durable"
    FINALIZE = "write PUBLISHED into the ledger"
    DISCARD = "remove own staging"


class Outcome(enum.Enum):
    DONE = "done"
    COMMITTED = "the batch is in the ledger"
    REFUSED = "a guard did not hold, nothing was stored"
    UNKNOWN = "nobody knows"
    ABSENT = "the batch is not in the ledger"
    OUSTED = "the epoch was not ours any more"
    LOST = "a file is neither staged nor final, or is another one"


STEPS: Mapping[State, Step] = {
    State.OPEN: Step.SEAL,
    State.STAGED: Step.DECIDE,
    State.UNSURE: Step.RESOLVE,
    State.DECIDED: Step.PUBLISH,
    State.PLACED: Step.FINALIZE,
    State.REFUSED: Step.DISCARD,
    State.ABSENT: Step.DISCARD,
}
"""States without a step are final."""

NEXT: Mapping[tuple[State, Outcome], State] = {
    (State.OPEN, Outcome.DONE): State.STAGED,
    (State.STAGED, Outcome.COMMITTED): State.DECIDED,
    (State.STAGED, Outcome.REFUSED): State.REFUSED,
    (State.STAGED, Outcome.UNKNOWN): State.UNSURE,
    (State.UNSURE, Outcome.COMMITTED): State.DECIDED,
    (State.UNSURE, Outcome.ABSENT): State.ABSENT,
    (State.UNSURE, Outcome.OUSTED): State.FENCED,  # staging stays: the new owner may need it to publish
    (State.DECIDED, Outcome.DONE): State.PLACED,
    (State.DECIDED, Outcome.LOST): State.HALTED,
    (State.PLACED, Outcome.DONE): State.PUBLISHED,
    (State.REFUSED, Outcome.DONE): State.FENCED,
    (State.ABSENT, Outcome.DONE): State.DROPPED,
}


def step_of(state: State) -> Step | None:
    """None when the batch has come to its end."""
    return STEPS.get(state)


def after(state: State, outcome: Outcome) -> State:
    """ValueError when a step of `state` cannot end so."""
    try:
        return NEXT[state, outcome]
    except KeyError:
        raise ValueError(f"{outcome} after {state}") from None


class Seen(NamedTuple):
    """What a look at a path found: a file of this size and checksum."""

    size: int
    checksum: str


class Verdict(enum.Enum):
    """What two looks, first at staging and then at the final path, say about one file of a decided batch."""

    THERE = "the final file is right"
    TRY = "not final yet, and staged: publish (again)"
    LOOK_AGAIN = "in neither place: a look a little later decides"
    MISSING = "in neither place, twice"
    FOREIGN = "at the final path is another file"
    DAMAGED = "what is staged is not what was decided"


def judge(expected: Seen, staged: Seen | None, final: Seen | None, *, waited: bool) -> Verdict:
    """`staged` must have been looked at before `final`: a rival moves files the other way."""
    if final is not None:
        return Verdict.THERE if final == expected else Verdict.FOREIGN
    if staged is not None:
        return Verdict.TRY if staged == expected else Verdict.DAMAGED
    return Verdict.MISSING if waited else Verdict.LOOK_AGAIN


def garbage(epochs: Collection[int], current: int, needed: Collection[int]) -> list[int]:
    """Epochs whose staging may go: older than ours, and named by no batch that is still to be published."""
    return sorted(epoch for epoch in epochs if epoch < current and epoch not in needed)
