"""Carries one batch through the landing state machine: performs each step on the ledger and the store."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tailrace.clock import Clock
from tailrace.failpoint import failpoint
from tailrace.sinks.ledger.ledger import Ledger
from tailrace.sinks.ledger.model import Answer, Decision, LandedFile, Undone
from tailrace.sinks.parquet.machine import Outcome, State, Step, after, step_of
from tailrace.sinks.parquet.names import file_name, footer, join
from tailrace.sinks.parquet.open_batch import OpenBatch, OwnedGroup
from tailrace.sinks.parquet.part import Part
from tailrace.sinks.parquet.publish import publish
from tailrace.sinks.stores.select import Location
from tailrace.sinks.stores.store import Store

_OUTCOMES: Mapping[Answer, Outcome] = {
    Answer.COMMITTED: Outcome.COMMITTED,
    Answer.REFUSED: Outcome.REFUSED,
    Answer.UNKNOWN: Outcome.UNKNOWN,
    Answer.ABSENT: Outcome.ABSENT,
    Answer.OUSTED: Outcome.OUSTED,
}


@dataclass(slots=True)
class Flight:
    """A batch on its way. `group` and `batch` are None for one that a predecessor left decided."""

    state: State
    id: str
    group: OwnedGroup | None = None
    batch: OpenBatch | None = None
    decision: Decision | None = None
    files: tuple[LandedFile, ...] = ()
    reason: str = ""
    """Why it HALTED."""


def departing(group: OwnedGroup) -> Flight:
    """The open batch of a group, on its way from now on."""
    assert group.batch is not None
    return Flight(State.OPEN, group.batch.id, group, group.batch)


def redone(undone: Undone) -> Flight:
    """A batch that the ledger has as decided."""
    return Flight(State.DECIDED, undone.batch, files=undone.files)


@dataclass(frozen=True, slots=True)
class Landing:
    """What steps need. `location` has the root, `sink` is the sink's name in footers.

    before_file  called before each file is ended: raises OSError while there is no room for it
    """

    ledger: Ledger
    store: Store
    location: Location
    clock: Clock
    sink: str
    before_file: Callable[[Part], None] = field(default=lambda _part: None)

    def land(self, flight: Flight) -> State:
        """Performs step after step until the batch has come to its end; answers the last state.

        OSError: the step could not be done now; call again, it goes on from there. Spoiled: a file that is
        not yet decided is lost, so the batch is.
        """
        while (step := step_of(flight.state)) is not None:
            flight.state = after(flight.state, _STEPS[step](self, flight))
        return flight.state

    def _seal(self, flight: Flight) -> Outcome:
        assert flight.group is not None and flight.batch is not None
        group, batch = flight.group, flight.batch
        failpoint("landing.before_seal")
        for part in list(batch.all_parts()):
            if part.sealed is None:
                self.before_file(part)
                part.finish(footer(self.ledger.uuid, self.sink, batch.id, part.dead, batch.covered()))
                failpoint("landing.after_footer")
                part.seal()
        flight.files = tuple(self._landed(group, batch))
        flight.decision = Decision(batch.id, group.ownership, group.advances(), flight.files)
        failpoint("landing.staged")
        return Outcome.DONE

    def _decide(self, flight: Flight) -> Outcome:
        assert flight.decision is not None
        failpoint("landing.before_decide")
        answer = self.ledger.decide(flight.decision, self.clock.now_ms())
        failpoint("landing.after_decide")
        return _OUTCOMES[answer]

    def _resolve(self, flight: Flight) -> Outcome:
        assert flight.decision is not None and flight.group is not None
        failpoint("landing.before_resolve")
        answer, flight.group.ownership = self.ledger.resolve(flight.decision)
        failpoint("landing.after_resolve")
        return _OUTCOMES[answer]

    def _publish(self, flight: Flight) -> Outcome:
        failpoint("landing.before_publish")
        placed = publish(
            self.store, self.location, self.clock, flight.files, fresh=flight.decision is not None
        )
        flight.reason = placed.reason
        failpoint("landing.after_publish")
        return placed.outcome

    def _finalize(self, flight: Flight) -> Outcome:
        failpoint("landing.before_finalize")
        self.ledger.finalize(flight.id, self.clock.now_ms())
        failpoint("landing.after_finalize")
        return Outcome.DONE

    def _discard(self, flight: Flight) -> Outcome:
        failpoint("landing.before_discard")
        if flight.batch is not None:
            for part in flight.batch.all_parts():
                part.discard()
        failpoint("landing.after_discard")
        return Outcome.DONE

    def _landed(self, group: OwnedGroup, batch: OpenBatch) -> list[LandedFile]:
        first = f"{group.ownership.sequence:020}"
        if group.ownership.group.kind == "topic":
            (covered,) = batch.covered()
            first = f"{covered.start:020}-{covered.end:020}"
        landed = []
        for index, part in enumerate(batch.all_parts()):
            sealed = part.seal()
            name = file_name(group.names.label, first, batch.id, index)
            landed.append(
                LandedFile(
                    self.store.url(sealed.path),
                    self.store.url(join(self.location.path, part.directory, name)),
                    part.rows,
                    sealed.look.size,
                    sealed.look.checksum,
                    part.first,
                    part.last,
                    part.dead,
                )
            )
        return landed


_STEPS: Mapping[Step, Callable[[Landing, Flight], Outcome]] = {
    Step.SEAL: Landing._seal,
    Step.DECIDE: Landing._decide,
    Step.RESOLVE: Landing._resolve,
    Step.PUBLISH: Landing._publish,
    Step.FINALIZE: Landing._finalize,
    Step.DISCARD: Landing._discard,
}
