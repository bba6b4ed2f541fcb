"""Gives decided files their final names: try, then judge by looking, never by the reply.

Anyone may do this for any decided batch, any number of times, also while somebody else is doing it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tailrace.clock import Clock
from tailrace.failpoint import failpoint
from tailrace.sinks.ledger.model import LandedFile
from tailrace.sinks.parquet.machine import Outcome, Seen, Verdict, judge
from tailrace.sinks.stores.select import Location, path_in
from tailrace.sinks.stores.store import Look, Store, StoreError

LOOK_AGAIN = 5.0
"""Seconds before a file that is in neither place is believed to be gone."""

_REASONS = {
    Verdict.MISSING: "is neither staged nor published, although the ledger has decided it",
    Verdict.FOREIGN: "is there, but it is not the file that the ledger has decided",
    Verdict.DAMAGED: "is staged, but not with the bytes that the ledger has decided",
}


@dataclass(frozen=True, slots=True)
class Placed:
    """outcome DONE: every file is final, durably. LOST: `reason` names the first that never can be."""

    outcome: Outcome
    reason: str = ""


def publish(
    store: Store, location: Location, clock: Clock, files: Sequence[LandedFile], *, fresh: bool
) -> Placed:
    """`fresh`: this process has just sealed the files; a redo looks at what is staged before it shows it.

    Raises OSError when the store cannot be reached or does not do it now: call again.
    """
    paths: list[tuple[str, str]] = []
    for landed in files:
        staged, final = path_in(location, landed.staging), path_in(location, landed.final)
        if staged is None or final is None:
            return Placed(
                Outcome.LOST, f"{landed.final} was decided for another store; run once with the old `path:`"
            )
        failpoint("publish.before_file")
        verdict = _place(store, clock, landed, staged, final, fresh)
        if verdict is not Verdict.THERE:
            return Placed(Outcome.LOST, f"{landed.final} {_REASONS[verdict]} (staged as {landed.staging})")
        paths.append((staged, final))
    failpoint("publish.before_sync")
    make_durable(store, [final for _, final in paths])
    failpoint("publish.before_unstage")
    for staged, _ in paths:
        store.remove(staged)
        failpoint("publish.after_unstage")
    return Placed(Outcome.DONE)


def make_durable(store: Store, finals: Sequence[str]) -> None:
    """The new names survive a power cut; only then may staging go, and the ledger say PUBLISHED."""
    store.sync(finals)


def _place(store: Store, clock: Clock, landed: LandedFile, staged: str, final: str, fresh: bool) -> Verdict:
    expected = Seen(landed.bytes, landed.checksum)
    refusal: OSError | None = None
    tries, waited = 0, False
    verdict = Verdict.TRY if fresh else _look(store, expected, staged, final, waited)
    while True:
        if verdict is Verdict.TRY:
            if tries:
                raise refusal or StoreError(f"{landed.final}: the store does not publish {landed.staging}")
            tries += 1
            try:
                if store.publish(staged, final):
                    return Verdict.THERE
            except OSError as error:
                refusal = error
        elif verdict is Verdict.LOOK_AGAIN:
            clock.sleep(LOOK_AGAIN)
            waited = True
        else:
            return verdict
        verdict = _look(store, expected, staged, final, waited)


def _look(store: Store, expected: Seen, staged: str, final: str, waited: bool) -> Verdict:
    """Staging first: a rival moves files the other way."""
    there = _seen(store.look(staged))
    return judge(expected, there, _seen(store.look(final)), waited=waited)


def _seen(look: Look | None) -> Seen | None:
    return Seen(look.size, look.checksum) if look is not None else None
