"""JoinGroup: who may join, what a join starts, and who gets the current generation without one.

member id   instance id   meaning
empty       none          a new dynamic member; from version 4 on it is given an id to come back with
empty       set           a static member that started: new, or it takes over the place of its last life
given       none          a dynamic member joins again, or comes back with the id it was given
given       set           a static member joins again, unless a later life has taken its place
"""

from dataclasses import replace

from tailrace.broker.coordinator.group import GroupState, Member
from tailrace.broker.coordinator.group_messages import Joined, JoinRequest, Synced
from tailrace.broker.coordinator.group_step import GroupStep
from tailrace.broker.coordinator.membership import check_member
from tailrace.broker.coordinator.rebalance import joined, prepare
from tailrace.broker.wire.errors import ErrorCode


def join(step: GroupStep, request: JoinRequest, ticket: int) -> None:
    """Answers `ticket` with Joined: in this step, or in the one that begins the next generation."""
    error = _refusal(step, request)
    if error is not ErrorCode.none:
        step.answer(ticket, Joined(error, member_id=request.member_id))
    elif not request.member_id:
        holder = step.group.static(request.instance_id)
        if holder is not None:
            _take_over(step, holder, request, ticket)
        elif request.instance_id is None and request.needs_known_id:
            _give_id(step, request, ticket)
        else:
            _add(step, request, request.fresh_id, ticket)
    elif request.member_id in step.group.pending:
        step.set_timer("pending", None, request.member_id)
        step.group = replace(step.group, pending=step.group.pending - {request.member_id})
        _add(step, request, request.member_id, ticket)
    else:
        _join_again(step, request, ticket)


def _refusal(step: GroupStep, request: JoinRequest) -> ErrorCode:
    group, limits = step.group, step.limits
    if not request.group_id:
        return ErrorCode.invalid_group_id
    if not limits.min_session <= request.session_timeout <= limits.max_session:
        return ErrorCode.invalid_session_timeout
    pending = request.member_id in group.pending
    if request.member_id and not pending:
        error = check_member(group, request.member_id, request.instance_id)
        if error is not ErrorCode.none:
            return error
    if pending and request.instance_id is not None:
        return ErrorCode.unknown_member_id
    if not group.supports(request.protocol_type, request.protocols):
        return ErrorCode.inconsistent_group_protocol
    comes = not request.member_id and group.static(request.instance_id) is None
    if comes and len(group.members) + len(group.pending) >= limits.max_members:
        return ErrorCode.group_max_size_reached
    return ErrorCode.none


def _give_id(step: GroupStep, request: JoinRequest, ticket: int) -> None:
    step.group = replace(step.group, pending=step.group.pending | {request.fresh_id})
    step.set_timer("pending", request.session_timeout, request.fresh_id)
    step.answer(ticket, Joined(ErrorCode.member_id_required, member_id=request.fresh_id))


def _add(step: GroupStep, request: JoinRequest, member_id: str, ticket: int) -> None:
    group = step.group
    member = Member(
        member_id,
        request.instance_id,
        request.client_id,
        request.client_host,
        request.session_timeout,
        request.rebalance_timeout,
        tuple(request.protocols),
        new=True,
        join=ticket,
    )
    # A client that gives up waiting for its first answer comes back as yet another member: this one must go.
    step.set_timer("session", step.limits.new_member_join, member_id)
    protocol_type = group.protocol_type if group.members else request.protocol_type
    more_came = group.more_came or group.delay_left is not None
    step.group = replace(
        group.with_member(member),
        protocol_type=protocol_type,
        leader=group.leader or member_id,
        more_came=more_came,
    )
    prepare(step)


def _join_again(step: GroupStep, request: JoinRequest, ticket: int) -> None:
    group = step.group
    member = group.members[request.member_id]
    same = tuple(member.protocols) == tuple(request.protocols)
    leads = group.leader == member.member_id
    # A leader that joins a stable group wants to assign anew. One whose first answer was lost gets it again.
    settled = same and (
        group.state is GroupState.COMPLETING or (group.state is GroupState.STABLE and not leads)
    )
    if settled:
        step.answer(ticket, joined(group, member.member_id, as_leader=leads))
        if not member.waiting:
            step.expect_heartbeat(member)
        return
    _wait(step, member, request, ticket)
    prepare(step)


def _wait(step: GroupStep, member: Member, request: JoinRequest, ticket: int) -> None:
    """The member joins again: what it says replaces what we knew, and its JoinGroup waits."""
    step.answer(member.join, Joined(ErrorCode.rebalance_in_progress, member_id=member.member_id))
    if not member.new:
        step.set_timer("session", None, member.member_id)
    step.group = step.group.with_member(
        replace(
            member,
            client_id=request.client_id,
            client_host=request.client_host,
            session_timeout=request.session_timeout,
            rebalance_timeout=request.rebalance_timeout,
            protocols=tuple(request.protocols),
            join=ticket,
        )
    )


def _take_over(step: GroupStep, old: Member, request: JoinRequest, ticket: int) -> None:
    """A static member's next life: the last one is fenced; a stable group goes on without a rebalance."""
    step.answer(old.join, Joined(ErrorCode.fenced_instance_id, member_id=old.member_id))
    step.answer(old.sync, Synced(ErrorCode.fenced_instance_id))
    step.set_timer("session", None, old.member_id)
    old_leader = step.group.leader
    leads = old_leader == old.member_id
    member = replace(old, member_id=request.fresh_id, join=None, sync=None, new=False)
    members = {m.member_id: m for m in (member if m is old else m for m in step.group.members.values())}
    step.group = replace(step.group, members=members, leader=member.member_id if leads else old_leader)
    _wait(step, member, request, ticket)
    group = step.group
    if group.state is not GroupState.STABLE or group.choose_protocol() != group.protocol:
        prepare(step)
        return
    waiting = group.members[member.member_id]
    step.group = group = group.with_member(replace(waiting, join=None))
    step.expect_heartbeat(waiting)
    step.store = True
    answer = joined(group, member.member_id, as_leader=leads and request.can_skip_assignment)
    if leads and request.can_skip_assignment:
        answer = replace(answer, skip_assignment=True)
    elif leads:
        # Before version 9 there is no such flag: a leader that does not know its own name does not assign.
        answer = replace(answer, leader=old_leader or "")
    step.answer(ticket, answer)
