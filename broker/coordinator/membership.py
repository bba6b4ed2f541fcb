"""Who may speak for a member, and how members go: checks, Heartbeat, LeaveGroup, sessions that ran out."""

from dataclasses import replace

from tailrace.broker.coordinator.group import Group, GroupState
from tailrace.broker.coordinator.group_messages import LeaveRequest, Left
from tailrace.broker.coordinator.group_step import GroupStep
from tailrace.broker.coordinator.rebalance import remove, try_finish
from tailrace.broker.wire.errors import ErrorCode


def check_member(group: Group, member_id: str, instance_id: str | None) -> ErrorCode:
    """`none` for a member; FENCED_INSTANCE_ID when the instance has another member id by now (KIP-345)."""
    if instance_id is not None:
        holder = group.static(instance_id)
        if holder is None:
            return ErrorCode.unknown_member_id
        return ErrorCode.none if holder.member_id == member_id else ErrorCode.fenced_instance_id
    return ErrorCode.none if member_id in group.members else ErrorCode.unknown_member_id


def check_generation(group: Group, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
    """As check_member, and the generation is the current one."""
    error = check_member(group, member_id, instance_id)
    if error is ErrorCode.none and generation != group.generation:
        return ErrorCode.illegal_generation
    return error


def heartbeat(step: GroupStep, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
    """Keeps the session alive; REBALANCE_IN_PROGRESS tells the member to join again."""
    group = step.group
    error = check_generation(group, member_id, instance_id, generation)
    if error is not ErrorCode.none:
        return error
    member = group.members[member_id]
    if not member.waiting:
        step.expect_heartbeat(member)
    return ErrorCode.rebalance_in_progress if group.state is GroupState.PREPARING else ErrorCode.none


def leave(step: GroupStep, request: LeaveRequest) -> Left:
    """Each member on its own (KIP-345 batches them); one that is not there does not stop the others."""
    results: list[tuple[str, str | None, ErrorCode]] = []
    gone: set[str] = set()
    for member_id, instance_id in request.members:
        group = step.group
        error = ErrorCode.none
        holder = group.static(instance_id)
        if not member_id and holder is not None:
            gone.add(holder.member_id)
        elif member_id in group.pending and instance_id is None:
            forget_pending(step, member_id)
        else:
            error = check_member(group, member_id, instance_id)
            if error is ErrorCode.none:
                gone.add(member_id)
        results.append((member_id, instance_id, error))
    remove(step, gone)
    return Left(ErrorCode.none, results)


def forget_pending(step: GroupStep, member_id: str) -> None:
    """An id that was given out will not come back: a rebalance need not wait for it."""
    step.set_timer("pending", None, member_id)
    step.group = replace(step.group, pending=step.group.pending - {member_id})
    try_finish(step)


def session_due(step: GroupStep, member_id: str) -> None:
    """The session timer: a member that owes us a heartbeat is out."""
    member = step.group.members.get(member_id)
    if member is not None and (member.new or not member.waiting):
        remove(step, {member_id})
