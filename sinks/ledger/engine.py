"""Opening a ledger's database so that its commits are durable: SQLite on this host, or PostgreSQL.

SQLite: WAL, synchronous FULL, BEGIN IMMEDIATE; refused on network filesystems, whose locks cannot be
trusted. PostgreSQL: synchronous commit is insisted on, and no statement waits for ever.
"""

import os
import re
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from tailrace.errors import Halt

_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
_DRIVERS |= {"sqlite+pysqlite": "sqlite", "postgresql+psycopg": "postgresql+psycopg"}

_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|afs|9p|ceph|glusterfs|lustre|gpfs|beegfs|ocfs2|gfs2|orangefs|davfs|fuse\..*"
)
_LOCAL_FUSE = frozenset(
    {"fuse.fuse-overlayfs", "fuse.overlayfs", "fuse.lxcfs", "fuse.gocryptfs", "fuse.encfs"}
)

_BUSY_MS = 10_000
_POSTGRESQL = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "options": "-c statement_timeout=60000 -c lock_timeout=30000"
    " -c idle_in_transaction_session_timeout=60000",
    "application_name": "tailrace",
}


def parse_url(text: str) -> URL:
    """ValueError, with the remedy, when there is no such kind of ledger."""
    try:
        url = make_url(text)
    except ArgumentError:
        raise ValueError(
            f"expected sqlite:///path/ledger.db or postgresql://user@host/database, not {text!r}"
        ) from None
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise ValueError(f"no ledger on {url.drivername}: there are sqlite:/// and postgresql://")
    if driver == "sqlite" and url.database in (None, "", ":memory:"):
        raise ValueError("a ledger in memory would forget everything: write sqlite:///path/ledger.db")
    return url.set(drivername=driver)


def default_url(pipeline_state_dir: Path) -> URL:
    """`<state_dir>/ledger.db`, one for all sinks of the pipeline."""
    return URL.create("sqlite", database=str(pipeline_state_dir / "ledger.db"))


def ledger_url(text: str | None, pipeline_state_dir: Path) -> URL:
    """What a sink's `ledger:` means."""
    return default_url(pipeline_state_dir) if text is None else parse_url(text)


def show_url(url: URL) -> str:
    """For messages: without the password."""
    return url.render_as_string(hide_password=True)


def open_engine(url: URL) -> Engine:
    """Raises Halt when the database's place or its driver cannot keep a ledger."""
    return _open_sqlite(url) if url.drivername == "sqlite" else _open_postgresql(url)


def filesystem_of(path: str, mounts: str = "/proc/self/mountinfo") -> str:
    """Type of the filesystem that holds `path` (`ext4`, `fuse.sshfs`); empty when it cannot be told."""
    try:
        text = Path(mounts).read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
    path = os.path.realpath(path)
    longest, kind = "", ""
    for line in text.splitlines():
        head, _, tail = line.partition(" - ")
        fields, rest = head.split(" "), tail.split(" ")
        if len(fields) < 5 or not rest[0]:
            continue
        mount = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(longest):
            longest, kind = mount, rest[0]
    return kind


def is_network(kind: str) -> bool:
    return kind not in _LOCAL_FUSE and _NETWORK.fullmatch(kind) is not None


def _open_sqlite(url: URL) -> Engine:
    path = os.path.abspath(url.database or "")
    kind = filesystem_of(path)
    if is_network(kind):
        raise Halt(
            f"ledger {path}: SQLite cannot be trusted on a network filesystem ({kind}); "
            "set `ledger:` to a path on a local disk, or to postgresql://..."
        )
    os.makedirs(os.path.dirname(path), exist_ok=True)
    engine = create_engine(
        url.set(database=path),
        pool_size=1,
        max_overflow=0,
        connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_immediate)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # BEGIN is ours, below
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_immediate(connection: Connection) -> None:
    """A plain BEGIN would take the write lock too late, and fail half-way."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _open_postgresql(url: URL) -> Engine:
    try:
        engine = create_engine(
            url,
            pool_pre_ping=True,
            pool_size=1,
            max_overflow=0,
            isolation_level="READ COMMITTED",
            connect_args=_POSTGRESQL,
        )
    except ModuleNotFoundError as error:
        raise Halt(
            f"ledger {show_url(url)}: {error}; install it: pip install 'tailrace[postgresql]'"
        ) from error
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def _prepare_postgresql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false)"
            " WHERE current_setting('synchronous_commit') = 'off'"
        )
    connection.commit()
