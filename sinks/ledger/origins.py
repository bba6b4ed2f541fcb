"""What `tailrace positions` does with a ledger: look how far each partition is decided, and begin one anew.

Beginning anew does not turn a position back: a new incarnation of the partition takes its place, and the
ranges of the old one stay as they were.
"""

from collections.abc import Collection, Mapping

from sqlalchemy import ColumnElement, Connection, and_, insert, select, update

from tailrace.errors import Halt
from tailrace.event import Partition, Record
from tailrace.sinks.ledger.ledger import Ledger
from tailrace.sinks.ledger.model import SinkId
from tailrace.sinks.ledger.schema import batch, batch_range, ownership, partition_state


def stored(ledger: Ledger, sink: SinkId) -> Mapping[Partition, Record]:
    """Of every partition of this instance of the sink that has a record. Fences nobody."""
    current = select(partition_state).join(ownership).where(_ours(sink), partition_state.c.retired.is_(False))
    with ledger.transaction("read") as connection:
        return {
            Partition(row.kind, row.stream, row.number, row.name): Record(row.next, row.state)
            for row in connection.execute(current.order_by(partition_state.c.id))
            if row.next is not None
        }


def forget(ledger: Ledger, sink: SinkId, partitions: Collection[Partition]) -> None:
    """Makes them new again: their rows will be read and landed once more; what has landed stays.

    A batch of them that is decided and was never published is given up with them: Halt, and nothing is
    changed, when it holds rows of other partitions too.
    """
    with ledger.transaction("forget") as connection:
        for partition in partitions:
            row = connection.execute(
                select(partition_state)
                .join(ownership)
                .where(
                    _ours(sink),
                    partition_state.c.retired.is_(False),
                    partition_state.c.kind == partition.kind,
                    partition_state.c.stream == partition.id,
                    partition_state.c.number == partition.number,
                )
                .with_for_update()
            ).one_or_none()
            if row is None or row.next is None:
                continue
            _abandon(connection, row.id, partitions)
            connection.execute(
                update(partition_state).where(partition_state.c.id == row.id).values(retired=True)
            )
            connection.execute(
                insert(partition_state).values(
                    ownership=row.ownership,
                    kind=row.kind,
                    stream=row.stream,
                    number=row.number,
                    incarnation=row.incarnation + 1,
                    retired=False,
                    name=row.name,
                )
            )


def _abandon(connection: Connection, row: int, partitions: Collection[Partition]) -> None:
    undone = (
        select(batch.c.id)
        .join(batch_range)
        .where(batch_range.c.partition_state == row, batch.c.state == "DECIDED")
        .distinct()
    )
    for one in connection.execute(undone).scalars().all():
        others = [
            other.name
            for other in connection.execute(
                select(partition_state).join(batch_range).where(batch_range.c.batch == one).distinct()
            )
            if Partition(other.kind, other.stream, other.number) not in partitions
        ]
        if others:
            raise Halt(
                f"batch {one} is decided but not published, and has rows of {', '.join(sorted(others))} too: "
                "publish it by starting the agent, or reset all of them at once"
            )
        connection.execute(update(batch).where(batch.c.id == one).values(state="ABANDONED"))


def _ours(sink: SinkId) -> ColumnElement[bool]:
    return and_(
        ownership.c.pipeline == sink.pipeline,
        ownership.c.sink == sink.sink,
        ownership.c.instance.in_(["", sink.instance]),
    )
