"""Faults planted into the landing, one at a time, each by swapping one named production function.

The crash tests of the landing must fail on every one of them, and pass without. TAILRACE_MUTANT names the one
to plant: in the tests' process and in every lander that it starts.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

from tailrace.sinks.ledger import decide
from tailrace.sinks.ledger.model import Answer
from tailrace.sinks.ledger.schema import ownership, partition_state
from tailrace.sinks.parquet import flight, recover, sink
from tailrace.sinks.parquet.machine import Outcome, State, Step, after, step_of
from tailrace.sinks.stores import local

_STEPS = {
    State.OPEN: Step.SEAL,
    State.STAGED: Step.PUBLISH,
    State.PLACED: Step.DECIDE,
    State.DECIDED: Step.FINALIZE,
}
_NEXT = {
    (State.STAGED, Outcome.DONE): State.PLACED,
    (State.PLACED, Outcome.COMMITTED): State.DECIDED,
    (State.PLACED, Outcome.REFUSED): State.REFUSED,
    (State.PLACED, Outcome.UNKNOWN): State.UNSURE,
    (State.DECIDED, Outcome.DONE): State.PUBLISHED,
}


def _publish_before_decide() -> None:
    flight.step_of = lambda state: _STEPS.get(state, step_of(state))
    flight.after = lambda state, outcome: _NEXT.get((state, outcome)) or after(state, outcome)


def _no_compare_on_next() -> None:
    decide.next_is_expected = lambda advance: partition_state.c.id == advance.partition_state


def _no_epoch_check() -> None:
    decide.epoch_is_mine = lambda owned: ownership.c.id == owned.id


def _unknown_commit_is_failure() -> None:
    decide.reply_lost = lambda: Answer.REFUSED


def _unknown_commit_is_success() -> None:
    decide.reply_lost = lambda: Answer.COMMITTED


def _garbage_before_publishing() -> None:
    recover.finish_decided = sink.finish_decided = lambda *_: []
    recover.garbage = lambda epochs, current, needed: [epoch for epoch in epochs if epoch < current]


MUTANTS: dict[str, Callable[[], None]] = {
    "publish before decide": _publish_before_decide,
    "no compare on next": _no_compare_on_next,
    "no epoch check": _no_epoch_check,
    "unknown COMMIT taken for failure": _unknown_commit_is_failure,
    "unknown COMMIT taken for success": _unknown_commit_is_success,
    "garbage collection ignores references": _garbage_before_publishing,
}


LOCAL = Path(local.__file__)
SYNCS = {
    f"no {match[1]} at {LOCAL.name}:{number}": number
    for number, line in enumerate(LOCAL.read_text().splitlines(), 1)
    if (match := re.search(r"_fs\.(fsync\w*)\(", line)) and "dirname(path)" not in line
}
"""Every place that makes something durable, to be left out one by one under power cuts.

But for the root's marker: the next directory made beside it makes it durable as well.
"""


def planted() -> str:
    """The mutant that the environment asks for; empty as a rule."""
    return os.environ.get("TAILRACE_MUTANT", "")


def plant() -> None:
    """In this process, for good."""
    name = planted()
    if name and name not in SYNCS:
        MUTANTS[name]()


def leave_out() -> Callable[[str, int], bool] | None:
    """For PowerCutFileSystem: the sync that the mutant leaves out."""
    line = SYNCS.get(planted())
    return (lambda file, at: Path(file).name == LOCAL.name and at == line) if line is not None else None
