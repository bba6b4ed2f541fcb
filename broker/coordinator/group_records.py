"""Groups and offsets as records of `__consumer_offsets`, and back."""

from tailrace.broker.coordinator.group import Group, GroupState, Member
from tailrace.broker.coordinator.offsets import Committed, TopicPartition
from tailrace.broker.wire.coordinator_records import (
    GroupMember,
    GroupMetadataKey,
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
    encode_key,
    encode_value,
)

Record = tuple[bytes, bytes | None]
"""Key and value; a value of None is a tombstone."""


def group_record(group: Group) -> Record:
    """A group as it is restored after a restart. Only STABLE and EMPTY groups are written."""
    members = tuple(
        GroupMember(
            member_id=m.member_id,
            group_instance_id=m.instance_id,
            client_id=m.client_id,
            client_host=m.client_host,
            rebalance_timeout=m.rebalance_timeout,
            session_timeout=m.session_timeout,
            subscription=m.metadata(group.protocol),
            assignment=m.assignment,
        )
        for m in group.members.values()
    )
    value = GroupMetadataValue(
        protocol_type=group.protocol_type or "",
        generation=group.generation,
        protocol=group.protocol,
        leader=group.leader,
        current_state_timestamp=group.since,
        members=members,
    )
    return encode_key(GroupMetadataKey(group=group.group_id)), encode_value(value)


def group_tombstone(group_id: str) -> Record:
    return encode_key(GroupMetadataKey(group=group_id)), None


def restore_group(group_id: str, value: GroupMetadataValue) -> Group:
    """The group of a record. Members know the one protocol that was chosen, until they join again."""
    members = {
        m.member_id: Member(
            m.member_id,
            m.group_instance_id,
            m.client_id,
            m.client_host,
            m.session_timeout,
            m.rebalance_timeout if m.rebalance_timeout >= 0 else m.session_timeout,
            ((value.protocol or "", bytes(m.subscription)),),
            bytes(m.assignment),
        )
        for m in value.members
    }
    return Group(
        group_id,
        GroupState.STABLE if members else GroupState.EMPTY,
        value.generation,
        value.protocol_type or None,
        value.protocol,
        value.leader,
        members,
        since=value.current_state_timestamp,
    )


def offset_record(group_id: str, place: TopicPartition, committed: Committed | None) -> Record:
    key = encode_key(OffsetCommitKey(group=group_id, topic=place[0], partition=place[1]))
    if committed is None:
        return key, None
    value = OffsetCommitValue(
        offset=committed.offset,
        leader_epoch=committed.leader_epoch,
        metadata=committed.metadata,
        commit_timestamp=committed.timestamp,
    )
    return key, encode_value(value)


def restore_offset(value: OffsetCommitValue, at: int) -> Committed:
    """`at`: the record's own offset in the log."""
    return Committed(value.offset, value.leader_epoch, value.metadata, value.commit_timestamp, at)
