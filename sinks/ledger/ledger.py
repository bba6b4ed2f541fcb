"""The ledger as a lander uses it: acquire, look what is undone, decide, resolve, finalize.

Each method is one transaction. LedgerDown says that nothing was stored and the call may be repeated; only
`decide` can end in doubt, and says so in its answer.
"""

import contextlib
import os
import sqlite3
import uuid as uuids
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import URL, ColumnElement, Connection, Engine, Row, Select, and_, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.schema import Table

from tailrace.errors import Corrupt, Fenced, Halt
from tailrace.event import Partition, Record
from tailrace.failpoint import failpoint
from tailrace.sinks.ledger import decide
from tailrace.sinks.ledger.engine import open_engine, show_url
from tailrace.sinks.ledger.model import Answer, Decision, Group, Held, LandedFile, Ownership, SinkId, Undone
from tailrace.sinks.ledger.schema import (
    VERSION,
    batch,
    file,
    meta,
    metadata,
    ownership,
    partition_state,
)
from tailrace.units import show_size

_INSERTS: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_PIECE = 500
_DAMAGED = ("malformed", "not a database", "disk image")


class LedgerDown(OSError):
    """The ledger cannot be reached or refuses; nothing was stored. The text names it and its reason."""


class Ledger:
    """One ledger, by its URL; connections are made when needed. `uuid` is known once `open` was called."""

    def __init__(self, url: URL, engine: Engine | None = None) -> None:
        self.place = show_url(url)
        self.uuid = ""
        self._engine = engine if engine is not None else open_engine(url)
        on_disk = url.drivername == "sqlite"
        self._directory = os.path.dirname(os.path.abspath(url.database or "")) if on_disk else None

    def open(self, pipeline: str) -> None:
        """Makes the tables when they are not there. Raises Halt for a newer version or another pipeline's."""
        with self._reaching("open"):
            metadata.create_all(self._engine)
        fresh = {"uuid": uuids.uuid4().hex, "version": str(VERSION), "pipeline": pipeline}
        with self.transaction("open") as connection:
            for name, value in fresh.items():
                _insert_if_absent(connection, meta, {"name": name, "value": value})
            found = {row.name: row.value for row in connection.execute(select(meta))}
        if int(found["version"]) > VERSION:
            raise Halt(
                f"ledger {self.place}: made by a newer version of Tailrace (tables {found['version']}, "
                f"this one knows {VERSION}); run that version"
            )
        if found["pipeline"] != pipeline:
            raise Halt(
                f"ledger {self.place}: belongs to pipeline {found['pipeline']!r}, and this is {pipeline!r}; "
                "give this pipeline a `state_dir:` or a `ledger:` of its own"
            )
        self.uuid = found["uuid"]

    def strangers(self, sink: SinkId, partition: Partition) -> list[str]:
        """Stream ids under which a topic-partition of this name was landed, other than its own id now."""
        with self.transaction("read") as connection:
            own = and_(ownership.c.pipeline == sink.pipeline, ownership.c.sink == sink.sink)
            known = (
                select(partition_state.c.stream)
                .join(ownership)
                .where(own, partition_state.c.kind == "topic", partition_state.c.number == partition.number)
            )
            if connection.execute(known.where(partition_state.c.stream == partition.id)).first() is not None:
                return []
            named = known.where(partition_state.c.name == partition.name).distinct()
            return sorted(connection.execute(named).scalars())

    def acquire(self, sink: SinkId, groups: Collection[Group], owner: str) -> dict[Group, Ownership]:
        """ACQUIRE: a new epoch for each, in one transaction. Whoever held one can decide nothing more."""
        acquired = {}
        with self.transaction("acquire") as connection:
            failpoint("ledger.acquire.before_update")
            for group in sorted(groups):
                key = {
                    "pipeline": sink.pipeline,
                    "sink": sink.sink,
                    "instance": "" if group.kind == "topic" else sink.instance,
                    "kind": group.kind,
                    "stream": group.stream,
                    "number": group.number,
                }
                _insert_if_absent(connection, ownership, {**key, "epoch": 0, "owner": "", "sequence": 0})
                mine = and_(*(ownership.c[name] == value for name, value in key.items()))
                connection.execute(
                    update(ownership).where(mine).values(epoch=ownership.c.epoch + 1, owner=owner)
                )
                row = connection.execute(select(ownership).where(mine)).one()
                acquired[group] = Ownership(row.id, group, row.epoch, row.sequence)
            failpoint("ledger.acquire.before_commit")
        failpoint("ledger.acquire.after_commit")
        return acquired

    def held(self, owned: Ownership) -> list[Held]:
        """All partitions of a group that were ever enrolled, as they stand."""
        with self.transaction("read") as connection:
            return _held(connection, partition_state.c.ownership == owned.id)

    def enroll(self, owned: Ownership, partitions: Collection[Partition]) -> list[Held]:
        """These partitions of a group as they stand, each with a row of its own from now on. Raises Fenced."""
        with self.transaction("enroll") as connection:
            locked = select(ownership.c.epoch).where(ownership.c.id == owned.id).with_for_update()
            if connection.execute(locked).scalar_one() != owned.epoch:
                raise Fenced(f"ledger {self.place}: {owned.group} was acquired by somebody else")
            wanted = dict.fromkeys(partitions)
            found = _held_of(connection, owned, wanted)
            if missing := [one for one in wanted if one not in found]:
                connection.execute(insert(partition_state), [_new_row(owned, one) for one in missing])
                found |= _held_of(connection, owned, missing)
            return [found[one] for one in wanted]

    def epoch(self, owned: Ownership) -> int:
        """The group's epoch as it is now."""
        with self.transaction("read") as connection:
            current = select(ownership.c.epoch).where(ownership.c.id == owned.id)
            return int(connection.execute(current).scalar_one())

    def groups(self, sink: SinkId) -> list[Group]:
        """Groups of file and stream origins that this instance of the sink has ever owned."""
        with self.transaction("read") as connection:
            mine = select(ownership).where(
                ownership.c.pipeline == sink.pipeline,
                ownership.c.sink == sink.sink,
                ownership.c.instance == sink.instance,
                ownership.c.kind != "topic",
            )
            return [Group(row.kind, row.stream, row.number) for row in connection.execute(mine)]

    def undone(self, sink: SinkId, groups: Collection[Ownership] | None = None) -> list[Undone]:
        """Batches decided and not published: of these groups, or all of this sink; oldest first."""
        wanted = (
            batch.c.ownership.in_([owned.id for owned in groups])
            if groups is not None
            else batch.c.ownership.in_(
                select(ownership.c.id).where(
                    ownership.c.pipeline == sink.pipeline,
                    ownership.c.sink == sink.sink,
                    ownership.c.instance.in_(["", sink.instance]),
                )
            )
        )
        with self.transaction("read") as connection:
            undone = (
                select(batch.c.id)
                .where(batch.c.state == "DECIDED", wanted)
                .order_by(batch.c.ownership, batch.c.sequence)
            )
            return [
                Undone(one, tuple(_landed(row) for row in connection.execute(_files_of(one))))
                for one in connection.execute(undone).scalars().all()
            ]

    def has_files_under(self, url: str) -> bool:
        """True when a published file's URL lies under this one."""
        with self.transaction("read") as connection:
            under = select(file.c.id).where(file.c.final.startswith(url.rstrip("/") + "/", autoescape=True))
            return connection.execute(under.limit(1)).first() is not None

    def decide(self, decision: Decision, now_ms: int) -> Answer:
        """DECIDE: COMMITTED, REFUSED, or UNKNOWN (then `resolve`). LedgerDown: certainly not stored."""
        with self._reaching("decide"), self._engine.connect() as connection:
            transaction = connection.begin()
            failpoint("ledger.decide.before_update")
            if not decide.store(connection, decision, now_ms):
                transaction.rollback()
                # An earlier call may have stored it and failed on its way out.
                return Answer.COMMITTED if _is_there(connection, decision) else Answer.REFUSED
            failpoint("ledger.decide.before_commit")
            try:
                failpoint("ledger.decide.commit_request")
                transaction.commit()
                failpoint("ledger.decide.commit_reply")
            except (DBAPIError, sqlite3.Error, OSError):
                with contextlib.suppress(DBAPIError, sqlite3.Error):
                    connection.invalidate()
                return decide.reply_lost()
        return Answer.COMMITTED

    def resolve(self, decision: Decision) -> tuple[Answer, Ownership]:
        """After UNKNOWN: makes anything that comes later lose, then looks whether the batch is there."""
        owned = decision.ownership
        with self.transaction("resolve") as connection:
            failpoint("ledger.resolve.before_bump")
            if not decide.bump(connection, owned):
                return Answer.OUSTED, owned
            there = _is_there(connection, decision)
            failpoint("ledger.resolve.before_commit")
        owned = replace(owned, epoch=owned.epoch + 1)
        return (Answer.COMMITTED if there else Answer.ABSENT), owned

    def finalize(self, batch_id: str, now_ms: int) -> None:
        """FINALIZE: the batch is PUBLISHED. Anyone may, any number of times."""
        with self.transaction("finalize") as connection:
            failpoint("ledger.finalize.before_update")
            connection.execute(
                update(batch)
                .where(batch.c.id == batch_id, batch.c.state == "DECIDED")
                .values(state="PUBLISHED", published_ms=now_ms)
            )
        failpoint("ledger.finalize.after_commit")

    def close(self) -> None:
        self._engine.dispose()

    @contextlib.contextmanager
    def transaction(self, verb: str) -> Iterator[Connection]:
        """Commits at its end. `verb` is for the text of LedgerDown, which says that nothing was stored."""
        with self._reaching(verb), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _reaching(self, verb: str) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            if verb == "open":  # somebody makes the same tables at the same moment
                raise LedgerDown(f"ledger {self.place}: {verb}: {error.orig}") from error
            raise Corrupt(f"ledger {self.place}: {verb}: it contradicts itself: {error.orig}") from error
        except (DBAPIError, sqlite3.Error) as error:
            reason = str(error.orig if isinstance(error, DBAPIError) else error).strip()
            if any(word in reason for word in _DAMAGED):
                raise Halt(f"ledger {self.place}: {reason}: restore it from a backup") from error
            raise LedgerDown(f"ledger {self.place}: {verb}: {reason}{self._room()}") from error

    def _room(self) -> str:
        """Most trouble of a ledger on this disk is that the disk is full."""
        if self._directory is None or not os.path.isdir(self._directory):
            return ""
        stat = os.statvfs(self._directory)
        return f"; {show_size(stat.f_bavail * stat.f_frsize)} free"


def _is_there(connection: Connection, decision: Decision) -> bool:
    return connection.execute(select(batch.c.id).where(batch.c.id == decision.batch)).first() is not None


def _held_of(
    connection: Connection, owned: Ownership, partitions: Collection[Partition]
) -> dict[Partition, Held]:
    """In pieces: databases bound the number of values in a statement."""
    found: dict[Partition, Held] = {}
    chosen = set(partitions)
    streams = list({one.id for one in chosen})
    for at in range(0, len(streams), _PIECE):
        mine = and_(
            partition_state.c.ownership == owned.id, partition_state.c.stream.in_(streams[at : at + _PIECE])
        )
        found |= {one.partition: one for one in _held(connection, mine) if one.partition in chosen}
    return found


def _held(connection: Connection, which: ColumnElement[bool]) -> list[Held]:
    row = partition_state
    of_partition = (row.c.ownership, row.c.kind, row.c.stream, row.c.number)
    furthest: dict[tuple[Any, ...], int | None] = {
        tuple(found[:4]): found.furthest
        for found in connection.execute(
            select(*of_partition, func.max(row.c.next).label("furthest")).where(which).group_by(*of_partition)
        )
    }
    current = select(row).where(which, row.c.retired.is_(False)).order_by(row.c.id)
    return [
        Held(
            found.id,
            Partition(found.kind, found.stream, found.number, found.name),
            None if found.next is None else Record(found.next, found.state),
            furthest[found.ownership, found.kind, found.stream, found.number],
        )
        for found in connection.execute(current)
    ]


def _new_row(owned: Ownership, partition: Partition) -> dict[str, object]:
    return {
        "ownership": owned.id,
        "kind": partition.kind,
        "stream": partition.id,
        "number": partition.number,
        "incarnation": 0,
        "retired": False,
        "name": partition.name,
    }


def _insert_if_absent(connection: Connection, table: Table, values: Mapping[str, object]) -> None:
    connection.execute(_INSERTS[connection.dialect.name](table).values(values).on_conflict_do_nothing())


def _files_of(batch_id: str) -> Select[Any]:
    return select(file).where(file.c.batch == batch_id).order_by(file.c.id)


def _landed(row: Row[Any]) -> LandedFile:
    return LandedFile(
        row.staging,
        row.final,
        row.rows,
        row.bytes,
        row.checksum,
        row.min_position,
        row.max_position,
        row.dead,
    )
