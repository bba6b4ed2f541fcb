"""RECOVER: publish what is decided and not yet published, then collect the staging of older epochs."""

from collections.abc import Collection

from tailrace.errors import Fenced, Halt
from tailrace.failpoint import failpoint
from tailrace.sinks.ledger.model import Ownership, SinkId
from tailrace.sinks.parquet.flight import Landing, redone
from tailrace.sinks.parquet.machine import State, garbage
from tailrace.sinks.parquet.names import join
from tailrace.sinks.stores.select import path_in
from tailrace.sinks.stores.store import Entry


def finish_decided(landing: Landing, sink: SinkId, groups: Collection[Ownership] | None = None) -> list[str]:
    """Publishes every decided batch of these groups (None: of the sink). Raises OSError to be called again.

    Answers what can never be published, each with the remedy; nothing may be landed after it.
    """
    lost = []
    for one in landing.ledger.undone(sink, groups):
        failpoint("recover.before_publish")
        flight = redone(one)
        if landing.land(flight) is State.HALTED:
            lost.append(
                f"batch {one.batch}: {flight.reason}. Put the file back where it was staged, or let the rows "
                "be read again: `tailrace positions reset`"
            )
    return lost


def collect_garbage(landing: Landing, sink: SinkId, owned: Ownership, staging: str) -> None:
    """Removes what older owners of the group left in `staging` (below the root), after `finish_decided`.

    Raises Halt when staging knows an epoch that the ledger does not, Fenced when it was acquired since.
    """
    failpoint("recover.before_collect")
    place = join(landing.location.path, staging)
    present = [number for entry in landing.store.entries(place) if (number := _epoch(entry)) is not None]
    if present and max(present) > owned.epoch:
        _explain_newer(landing, owned, place, max(present))
    needed = {
        int(path.removeprefix(f"{place}/").partition("/")[0])
        for one in landing.ledger.undone(sink, [owned])
        for file in one.files
        if (path := path_in(landing.location, file.staging)) is not None and path.startswith(f"{place}/")
    }
    for epoch in garbage(present, owned.epoch, needed):
        landing.store.remove_tree(join(place, str(epoch)))
        failpoint("recover.after_collect")


def _epoch(entry: Entry) -> int | None:
    return int(entry.name) if entry.is_directory and entry.name.isascii() and entry.name.isdigit() else None


def _explain_newer(landing: Landing, owned: Ownership, place: str, newest: int) -> None:
    now = landing.ledger.epoch(owned)
    if now >= newest:
        raise Fenced(f"{landing.store.url(place)}: somebody else has acquired it since (epoch {now})")
    raise Halt(
        f"ledger {landing.ledger.place}: it is at epoch {now}, but {landing.store.url(place)} has seen epoch "
        f"{newest}: the ledger was restored from an older copy, and going on would land rows twice"
    )
