"""A look into a ledger that changes nothing: no table is made, no lander is fenced or waited for."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from sqlalchemy import URL, ColumnElement, Connection, Engine, and_, create_engine, inspect, select
from sqlalchemy.exc import DBAPIError

from tailrace.component import Context
from tailrace.sinks.ledger.engine import open_engine, show_url
from tailrace.sinks.ledger.schema import VERSION, meta, ownership


class NoLedger(Exception):
    """There is no ledger yet, or none that this version can read; the text says why."""


@contextmanager
def looking_into(url: URL) -> Iterator[Connection]:
    """Raises NoLedger. What is read through the connection is one state of the ledger."""
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table(meta.name):
                raise NoLedger(f"{show_url(url)}: there is no ledger yet")
            version = int(meta_of(connection).get("version", "0"))
            if version > VERSION:
                raise NoLedger(
                    f"{show_url(url)}: made by a newer version of Tailrace (tables {version}, not {VERSION})"
                )
            yield connection
    except DBAPIError as error:
        raise NoLedger(f"{show_url(url)}: {error.orig}") from error
    finally:
        engine.dispose()


def meta_of(connection: Connection) -> dict[str, str]:
    """uuid, version, pipeline."""
    return {row.name: row.value for row in connection.execute(select(meta))}


def of_sink(context: Context) -> ColumnElement[bool]:
    """The groups of one sink, whatever instance owns them."""
    return and_(
        ownership.c.pipeline == context.pipeline, ownership.c.sink == f"{context.agent}.{context.name}"
    )


def _engine(url: URL) -> Engine:
    if url.drivername != "sqlite":
        return open_engine(url).execution_options(isolation_level="REPEATABLE READ")
    path = os.path.abspath(url.database or "")
    if not os.path.exists(path):
        raise NoLedger(f"{show_url(url)}: there is no ledger yet")
    read_only = f"file:{quote(path)}?mode=ro"
    return create_engine("sqlite://", creator=lambda: sqlite3.connect(read_only, uri=True))
