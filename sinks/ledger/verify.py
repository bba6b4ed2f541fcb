"""`tailrace ledger verify`: compares a landing sink's ledger with itself, with its files, and those with it.

Nothing is changed. Every file is read, where the store keeps no checksum of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, Row, func, select

from tailrace.component import Context
from tailrace.sinks.ledger.engine import ledger_url
from tailrace.sinks.ledger.looking import looking_into, meta_of, of_sink
from tailrace.sinks.ledger.schema import batch, batch_range, file, ownership, partition_state
from tailrace.sinks.parquet.names import STAGING, join
from tailrace.sinks.parquet.settings import ParquetSettings
from tailrace.sinks.parquet.template import parse_template
from tailrace.sinks.stores.footers import footer_of
from tailrace.sinks.stores.select import Access, Location, absolute, make_store, path_in
from tailrace.sinks.stores.store import Store


@dataclass(slots=True)
class Verified:
    """Counts of published files, and what was found.

    faults  cannot be right: something was changed from outside, or lost
    notes   only worth knowing
    """

    files: int = 0
    rows: int = 0
    dead_letters: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify(settings: ParquetSettings, context: Context) -> Verified:
    """Raises NoLedger, and OSError when the store cannot be reached."""
    location = parse_template(settings.path).location
    spool = context.state_dir / f"{context.name}.spool"
    store = make_store(location, Access(context.fs, spool, settings.user, settings.timeout))
    found = Verified()
    try:
        # First the files: what is there now was decided before, whoever lands meanwhile.
        landed = list(_landed(store, absolute(location, location.path)))
        with looking_into(ledger_url(settings.ledger, context.state_dir.parent)) as connection:
            found.faults += _holes(connection, context)
            uuid = meta_of(connection)["uuid"]
            for one in connection.execute(_batches(context)).all():
                _check_batch(connection, store, location, one, uuid, found)
            finals = {
                path_in(location, final) for final in connection.execute(select(file.c.final)).scalars()
            }
        found.faults += [
            f"{store.url(path)}: the ledger does not know it" for path in landed if path not in finals
        ]
        return found
    finally:
        store.close()


def _holes(connection: Connection, context: Context) -> Iterator[str]:
    """Ranges of a partition follow one another, up to its next position."""
    states = select(partition_state).join(ownership).where(of_sink(context)).order_by(partition_state.c.id)
    for state in connection.execute(states).all():
        name = f"{state.name} ({state.stream}-{state.number})"
        ranges = (
            select(batch_range).where(batch_range.c.partition_state == state.id).order_by(batch_range.c.start)
        )
        at = None
        for one in connection.execute(ranges):
            if at is not None and one.start != at:
                yield f"{name}: a range ends at {at}, and the next one begins at {one.start}"
            at = one.end
        if at is not None and at != state.next:
            yield f"{name}: the ranges end at {at}, and the next position is {state.next}"


def _batches(context: Context) -> Any:
    return select(batch).join(ownership).where(of_sink(context)).order_by(batch.c.ownership, batch.c.sequence)


def _check_batch(
    connection: Connection, store: Store, location: Location, one: Row[Any], uuid: str, found: Verified
) -> None:
    sums = select(func.sum(batch_range.c.rows), func.sum(batch_range.c.dead_lettered))
    by_ranges = tuple(
        number or 0 for number in connection.execute(sums.where(batch_range.c.batch == one.id)).one()
    )
    files = connection.execute(select(file).where(file.c.batch == one.id).order_by(file.c.id)).all()
    by_files = (sum(row.rows for row in files if not row.dead), sum(row.rows for row in files if row.dead))
    if by_ranges != by_files:
        found.faults.append(
            f"batch {one.id}: {by_ranges[0]} rows and {by_ranges[1]} dead letters by its ranges, "
            f"{by_files[0]} and {by_files[1]} by its files"
        )
    if one.state != "PUBLISHED":
        said = (
            "is decided; the next start publishes it" if one.state == "DECIDED" else "was given up by a reset"
        )
        found.notes.append(f"batch {one.id} {said}")
        return
    found.rows += by_files[0]
    found.dead_letters += by_files[1]
    for row in files:
        found.files += 1
        fault = _check_file(store, location, row, one.id, uuid)
        if fault is not None:
            found.faults.append(f"{row.final}: {fault}")


def _check_file(store: Store, location: Location, row: Row[Any], batch_id: str, uuid: str) -> str | None:
    path = path_in(location, row.final)
    if path is None:
        return "lies in another store than `path:` says"
    look = store.look(path)
    if look is None:
        return "is gone"
    if (look.size, look.checksum) != (row.bytes, row.checksum):
        return f"has {look.size} bytes and {look.checksum}, not {row.bytes} and {row.checksum}"
    try:
        footer = footer_of(store, path, look.size)
    except pa.ArrowInvalid as error:
        return f"is not a Parquet file: {error}"
    words = {key.decode(): value.decode() for key, value in (footer.metadata or {}).items()}
    if footer.num_rows != row.rows:
        return f"has {footer.num_rows} rows, not {row.rows}"
    if (words.get("tailrace.batch"), words.get("tailrace.ledger")) != (batch_id, uuid):
        return f"is of batch {words.get('tailrace.batch')} and ledger {words.get('tailrace.ledger')}"
    return None


def _landed(store: Store, directory: str) -> Iterator[str]:
    """Every Parquet file below the root, but for staging."""
    for entry in store.entries(directory):
        path = join(directory, entry.name)
        if entry.is_directory and entry.name != STAGING:
            yield from _landed(store, path)
        elif entry.name.endswith(".parquet"):
            yield path
