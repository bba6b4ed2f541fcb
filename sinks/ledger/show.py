"""`tailrace ledger show`: what a landing sink's ledger says, for people."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from tailrace.component import Context
from tailrace.sinks.ledger.engine import ledger_url, show_url
from tailrace.sinks.ledger.looking import looking_into, meta_of, of_sink
from tailrace.sinks.ledger.schema import batch, batch_range, ownership, partition_state
from tailrace.sinks.parquet.settings import ParquetSettings


def show(settings: ParquetSettings, context: Context) -> list[str]:
    """Lines: the ledger; of this sink each group with its batches, and each partition. Raises NoLedger."""
    url = ledger_url(settings.ledger, context.state_dir.parent)
    with looking_into(url) as connection:
        named = meta_of(connection)
        lines = [f"ledger {show_url(url)}: {named['uuid']}, pipeline {named['pipeline']}"]
        groups = select(ownership).where(of_sink(context)).order_by(ownership.c.id)
        for owned in connection.execute(groups).all():
            lines += _group(connection, owned)
            lines += _partitions(connection, owned.id)
    return lines


def _group(connection: Connection, owned: Row[Any]) -> Iterator[str]:
    counts = select(batch.c.state, func.count()).where(batch.c.ownership == owned.id).group_by(batch.c.state)
    states = ", ".join(f"{number} {state}" for state, number in sorted(connection.execute(counts).all()))
    last = select(func.max(batch.c.published_ms)).where(batch.c.ownership == owned.id)
    ms = connection.execute(last).scalar()
    when = f", the last at {datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%SZ}" if ms else ""
    what = "topic partition" if owned.kind == "topic" else f"{owned.kind}s of {owned.instance}"
    yield f"  {owned.sink}, {what}: epoch {owned.epoch}, owner {owned.owner or 'nobody'}"
    yield f"    batches: {states or 'none'}{when}"


def _partitions(connection: Connection, owned: int) -> Iterator[str]:
    ranges = (
        select(
            batch_range.c.partition_state,
            func.sum(batch_range.c.rows).label("rows"),
            func.sum(batch_range.c.dead_lettered).label("dead"),
        )
        .group_by(batch_range.c.partition_state)
        .subquery()
    )
    rows = (
        select(partition_state, ranges.c.rows, ranges.c.dead)
        .join_from(partition_state, ranges, partition_state.c.id == ranges.c.partition_state, isouter=True)
        .where(partition_state.c.ownership == owned)
        .order_by(partition_state.c.name, partition_state.c.number, partition_state.c.incarnation)
    )
    for row in connection.execute(rows):
        name = f"{row.name}-{row.number}" if row.kind == "topic" else row.name
        place = "nothing decided yet" if row.next is None else f"next {row.next}"
        dead = f", {row.dead} dead letters" if row.dead else ""
        retired = ", replaced by a reset" if row.retired else ""
        yield f"    {name} ({row.stream}): {place}, {row.rows or 0} rows{dead}{retired}"
