"""Which committed offsets are old enough to be forgotten (KIP-211): those that nobody can be using."""

from tailrace.broker.coordinator.group import Group, GroupState
from tailrace.broker.coordinator.offsets import Offsets, TopicPartition
from tailrace.broker.coordinator.subscription import subscribed_topics


def expired_offsets(group: Group, offsets: Offsets, now: int, retention: int) -> list[TopicPartition]:
    """Places of this group whose offset goes. `now` in wall ms, `retention` in ms.

    A group without members that had some: its offsets age from when the last member left, or from their
    commit if that is later. One that never had members: each from its commit. A stable group of consumers:
    those of topics it no longer subscribes to. Never where a transaction is about to end.
    """
    keep: frozenset[str] | None
    if not group.members:
        since, keep = (group.since if group.protocol_type else -1), frozenset()
    elif group.state is GroupState.STABLE and group.protocol_type == "consumer":
        since, keep = -1, _subscribed(group)
    else:
        return []
    if keep is None:
        return []
    unstable = offsets.unstable(group.group_id)
    return [
        place
        for place, committed in offsets.of(group.group_id).items()
        if place[0] not in keep
        and place not in unstable
        and max(since, committed.timestamp) + retention <= now
    ]


def _subscribed(group: Group) -> frozenset[str] | None:
    """Topics that any member subscribes to; None when one of them cannot be read."""
    found = [subscribed_topics(m.metadata(group.protocol)) for m in group.members.values()]
    known = [topics for topics in found if topics is not None]
    return frozenset().union(*known) if len(known) == len(found) else None
