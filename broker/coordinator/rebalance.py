"""The course of a rebalance: who must join again, when waiting ends, and what the new generation is.

prepare     all members are to join (PREPARING); EMPTY groups wait `initial_delay` for others to come
try_finish  everybody has joined: begin the generation at once
join_due    the time is over: dynamic members that did not join are out, static ones stay
sync_due    members that never sent SyncGroup are out, and it starts over
"""

from dataclasses import replace

from tailrace.broker.coordinator.group import Group, GroupState, Member
from tailrace.broker.coordinator.group_messages import Joined, JoinedMember, Synced
from tailrace.broker.coordinator.group_step import GroupStep
from tailrace.broker.wire.errors import ErrorCode


def prepare(step: GroupStep) -> None:
    """Begins a rebalance, or goes on with the one that is under way."""
    group = step.group
    if group.state is not GroupState.PREPARING:
        if group.state is GroupState.COMPLETING:
            _take_back_assignments(step)
        step.set_timer("sync", None)
        if group.state is GroupState.EMPTY and step.limits.initial_delay:
            delay = min(step.limits.initial_delay, group.rebalance_timeout)
            left = group.rebalance_timeout - delay
            step.group = replace(step.group, delay_left=left, more_came=False)
        else:
            delay = group.rebalance_timeout
            step.group = replace(step.group, delay_left=None)
        step.enter(GroupState.PREPARING)
        step.set_timer("join", delay)
    try_finish(step)


def try_finish(step: GroupStep) -> None:
    """Begins the next generation when nobody is left to wait for."""
    group = step.group
    if group.state is GroupState.PREPARING and group.delay_left is None and group.all_joined:
        _begin_generation(step)
    elif group.state is GroupState.PREPARING and not group.members and not group.pending:
        _become_empty(step)


def join_due(step: GroupStep) -> None:
    """The join timer: either the delay of an empty group's first rebalance, or the rebalance time-out."""
    group = step.group
    if group.more_came and group.delay_left:
        delay = min(step.limits.initial_delay, group.delay_left)
        step.group = replace(group, delay_left=group.delay_left - delay, more_came=False)
        step.set_timer("join", delay)
        return
    late = {m.member_id for m in group.members.values() if m.join is None and m.instance_id is None}
    for member_id in sorted(late):
        step.set_timer("session", None, member_id)
    step.group = group = group.without(late)
    if not group.members:
        _become_empty(step)
    elif all(m.join is None for m in group.members.values()):
        # Only static members that are away: their sessions decide, so wait once more.
        step.group = replace(group, delay_left=None)
        step.set_timer("join", group.rebalance_timeout)
    else:
        _begin_generation(step)


def sync_due(step: GroupStep) -> None:
    """The sync timer: members that did not ask for their share of this generation are out."""
    remove(step, {m.member_id for m in step.group.members.values() if m.owes_sync})


def remove(step: GroupStep, member_ids: set[str]) -> None:
    """Takes members out, tells those of them that wait, and rebalances what is left."""
    group = step.group
    gone = member_ids & group.members.keys()
    if not gone:
        return
    for member_id in sorted(gone):
        member = group.members[member_id]
        step.set_timer("session", None, member_id)
        step.answer(member.join, Joined(ErrorCode.unknown_member_id))
        step.answer(member.sync, Synced(ErrorCode.unknown_member_id))
    step.group = group.without(gone)
    if group.state is GroupState.PREPARING:
        try_finish(step)
    else:
        prepare(step)


def describe(group: Group) -> list[JoinedMember]:
    """What the leader is told of all members."""
    return [
        JoinedMember(m.member_id, m.instance_id, m.metadata(group.protocol)) for m in group.members.values()
    ]


def joined(group: Group, member_id: str, *, as_leader: bool) -> Joined:
    """The current generation, as a member is told of it."""
    return Joined(
        ErrorCode.none,
        member_id=member_id,
        generation=group.generation,
        protocol_type=group.protocol_type,
        protocol=group.protocol,
        leader=group.leader or "",
        members=describe(group) if as_leader else (),
    )


def _take_back_assignments(step: GroupStep) -> None:
    members = {}
    for member in step.group.members.values():
        if member.sync is not None:
            step.answer(member.sync, Synced(ErrorCode.rebalance_in_progress))
            step.expect_heartbeat(member)
        members[member.member_id] = replace(member, assignment=b"", sync=None)
    step.group = replace(step.group, members=members)


def _begin_generation(step: GroupStep) -> None:
    group = step.group
    if not group.members:
        _become_empty(step)
        return
    present = [m.member_id for m in group.members.values() if m.join is not None]
    step.group = group = replace(
        group,
        generation=_next_generation(group),
        protocol=group.choose_protocol(),
        leader=group.leader if group.leader in present else present[0],
        delay_left=None,
        more_came=False,
    )
    step.enter(GroupState.COMPLETING)
    step.set_timer("join", None)
    step.set_timer("sync", group.rebalance_timeout)
    members: dict[str, Member] = {}
    for member in group.members.values():
        if member.join is not None:
            step.answer(
                member.join, joined(group, member.member_id, as_leader=member.member_id == group.leader)
            )
            step.expect_heartbeat(member)
        members[member.member_id] = replace(member, join=None, new=False, owes_sync=True)
    step.group = replace(step.group, members=members)


def _become_empty(step: GroupStep) -> None:
    group = step.group
    step.group = replace(
        group,
        generation=_next_generation(group),
        protocol=None,
        leader=None,
        delay_left=None,
        more_came=False,
    )
    step.enter(GroupState.EMPTY)
    step.set_timer("join", None)
    step.set_timer("sync", None)
    step.store = True


def _next_generation(group: Group) -> int:
    # Kafka's generation is an int32 that must never be -1, which means "no generation".
    return group.generation + 1 if group.generation < 2**31 - 1 else 1
