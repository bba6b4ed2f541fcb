"""SyncGroup: the leader brings the assignment, the others fetch their share of it."""

from dataclasses import replace

from tailrace.broker.coordinator.group import Group, GroupState, Member
from tailrace.broker.coordinator.group_messages import Synced, SyncRequest
from tailrace.broker.coordinator.group_step import GroupStep
from tailrace.broker.coordinator.membership import check_generation
from tailrace.broker.wire.errors import ErrorCode


def sync(step: GroupStep, request: SyncRequest, ticket: int) -> None:
    """Answers `ticket` with Synced: in this step, or in the leader's."""
    group = step.group
    error = _refusal(group, request)
    if error is not ErrorCode.none:
        step.answer(ticket, Synced(error))
        return
    member = group.members[request.member_id]
    step.answer(member.sync, Synced(ErrorCode.rebalance_in_progress))
    step.set_timer("session", None, member.member_id)
    step.group = group = group.with_member(replace(member, sync=ticket, owes_sync=False))
    if group.state is GroupState.COMPLETING and request.member_id == group.leader:
        shares = dict(request.assignments)
        members = {id_: replace(m, assignment=shares.get(id_, b"")) for id_, m in group.members.items()}
        step.group = replace(group, members=members)
        step.enter(GroupState.STABLE)
        step.store = True
    if step.group.state is GroupState.STABLE:
        _hand_out(step)
    if not any(m.owes_sync for m in step.group.members.values()):
        step.set_timer("sync", None)


def _refusal(group: Group, request: SyncRequest) -> ErrorCode:
    if not group.group_id:
        return ErrorCode.invalid_group_id
    error = check_generation(group, request.member_id, request.instance_id, request.generation)
    if error is not ErrorCode.none:
        return error
    if request.protocol_type not in (None, group.protocol_type):
        return ErrorCode.inconsistent_group_protocol
    if group.state is GroupState.PREPARING:
        return ErrorCode.rebalance_in_progress
    return (
        ErrorCode.none
        if request.protocol in (None, group.protocol)
        else ErrorCode.inconsistent_group_protocol
    )


def _hand_out(step: GroupStep) -> None:
    group = step.group
    members: dict[str, Member] = {}
    for member in group.members.values():
        if member.sync is not None:
            step.answer(
                member.sync,
                Synced(ErrorCode.none, group.protocol_type, group.protocol, member.assignment),
            )
            step.expect_heartbeat(member)
        members[member.member_id] = replace(member, sync=None)
    step.group = replace(group, members=members)
