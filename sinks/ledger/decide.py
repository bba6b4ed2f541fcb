"""What one DECIDE transaction does, statement by statement. The guards are what keeps rows single.

The tests plant faults here, one function at a time: without any one of them rows are lost or doubled.
"""

from dataclasses import asdict

from sqlalchemy import ColumnElement, Connection, and_, insert, update

from tailrace.sinks.ledger.model import Advance, Answer, Decision, Ownership
from tailrace.sinks.ledger.schema import batch, batch_range, file, ownership, partition_state


def epoch_is_mine(owned: Ownership) -> ColumnElement[bool]:
    """Nobody has acquired the group since: else its new owner may have collected our staged files."""
    return and_(ownership.c.id == owned.id, ownership.c.epoch == owned.epoch)


def next_is_expected(advance: Advance) -> ColumnElement[bool]:
    """The partition stands where our rows begin, and no reset has put another row in its place."""
    return and_(
        partition_state.c.id == advance.partition_state,
        partition_state.c.retired.is_(False),
        partition_state.c.next.is_not_distinct_from(advance.expected),
    )


def reply_lost() -> Answer:
    """What an error at COMMIT says about the transaction: nothing."""
    return Answer.UNKNOWN


def bump(connection: Connection, owned: Ownership) -> bool:
    """A new epoch for a group we hold; waits for whoever has the row. False: it is not ours any more."""
    changed = connection.execute(
        update(ownership).where(epoch_is_mine(owned)).values(epoch=ownership.c.epoch + 1)
    )
    return changed.rowcount == 1


def store(connection: Connection, decision: Decision, now_ms: int) -> bool:
    """All of the decision, not committed yet; False when a guard did not hit exactly one row."""
    owned = decision.ownership
    moved = connection.execute(
        update(ownership).where(epoch_is_mine(owned)).values(sequence=owned.sequence + 1)
    )
    if moved.rowcount != 1:
        return False
    for advance in sorted(decision.advances, key=lambda one: one.partition_state):
        moved = connection.execute(
            update(partition_state)
            .where(next_is_expected(advance))
            .values(next=advance.end, state=advance.state, name=advance.name)
        )
        if moved.rowcount != 1:
            return False
    connection.execute(
        insert(batch).values(
            id=decision.batch,
            ownership=owned.id,
            sequence=owned.sequence,
            epoch=owned.epoch,
            state="DECIDED",
            decided_ms=now_ms,
        )
    )
    ranges = [
        {"partition_state": advance.partition_state, "batch": decision.batch, **asdict(one)}
        for advance in decision.advances
        for one in advance.ranges
    ]
    files = [{"batch": decision.batch, **asdict(landed)} for landed in decision.files]
    for table, rows in ((batch_range, ranges), (file, files)):
        if rows:
            connection.execute(insert(table), rows)
    return True
