"""Origins of sinks that cannot store them: `<state_dir>/<agent>/positions.db`, written after the sink's ack.

So these routes are at-least-once. Rows of a Kafka group have theirs in the group's committed offsets.
"""

import sqlite3
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tailrace.component import Membership, Scope
from tailrace.errors import Retry
from tailrace.event import Partition, Record

_TABLE = """
CREATE TABLE IF NOT EXISTS origin (
    sink TEXT, kind TEXT, id TEXT, number INTEGER, name TEXT NOT NULL, position INTEGER NOT NULL, state BLOB,
    PRIMARY KEY (sink, kind, id, number)
) WITHOUT ROWID
"""
_STORE = "INSERT OR REPLACE INTO origin VALUES (?, ?, ?, ?, ?, ?, ?)"

_FORGET = "DELETE FROM origin WHERE sink = ? AND kind = ? AND id = ? AND number = ?"


class KeptOrigins:
    """The records of one sink. Used by one thread at a time; the file may be shared by several sinks."""

    def __init__(self, path: Path, sink: str) -> None:
        self._sink = sink
        self._path = path
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        # A position that a power cut takes back repeats rows, which at-least-once allows: no fsync for each.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(_TABLE)
        rows = self._db.execute(
            "SELECT kind, id, number, name, position, state FROM origin WHERE sink = ?", (sink,)
        )
        self._stored = {Partition(*origin): Record(position, state) for *origin, position, state in rows}

    def records(
        self, partitions: Collection[Partition] | Scope, membership: Membership | None
    ) -> Mapping[Partition, Record]:
        """What is stored of `partitions`, or of all; for a group's topics what the group has committed."""
        if isinstance(partitions, Scope):
            return dict(self._stored)
        topics = [p for p in partitions if p.kind == "topic"] if membership is not None else []
        records = {p: self._stored[p] for p in partitions if p in self._stored and p not in topics}
        if membership is not None and topics:
            records |= {p: Record(offset) for p, (offset, _) in membership.offsets(topics).items()}
        return records

    def stored(self) -> Mapping[Partition, Record]:
        """All of them; those that a group's committed offsets hold are not here."""
        return dict(self._stored)

    def store(self, records: Mapping[Partition, Record]) -> None:
        """Replaces the records of these partitions, all at once. Retry while the disk is full."""
        rows = [(self._sink, p.kind, p.id, p.number, p.name, r.position, r.state) for p, r in records.items()]
        self._change(_STORE, rows)
        self._stored |= records

    def forget(self, partitions: Collection[Partition]) -> None:
        """These partitions are new again to the sink."""
        self._change(_FORGET, [(self._sink, p.kind, p.id, p.number) for p in partitions])
        for partition in partitions:
            self._stored.pop(partition, None)

    def close(self) -> None:
        self._db.close()

    def _change(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        try:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(statement, rows)
        except sqlite3.OperationalError as error:
            raise Retry(f"{self._path}: {error}") from error
