"""A consumer group as a value: its members, its generation, and the questions that the rules ask of it.

Groups and members are frozen: a decision makes a new one, which counts only once its records are in the log.
A `ticket` is the driver's number for a request that waits for its answer.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace


class GroupState(enum.Enum):
    """Kafka's states of a classic group; a dead one is simply not there.

    EMPTY       no members; offsets may be kept          -> PREPARING (a member joins)
    PREPARING   waits for all members to join again      -> COMPLETING, EMPTY (nobody came)
    COMPLETING  waits for the leader's assignment        -> STABLE, PREPARING (a member came or went)
    STABLE      every member has, or can get, its share  -> PREPARING
    """

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


Protocols = Sequence[tuple[str, bytes]]
"""(name, metadata) of each protocol a member can do, the one it likes best first."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member. Time-outs are in ms."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout: int
    rebalance_timeout: int
    protocols: Protocols
    assignment: bytes = b""
    new: bool = False
    """Has not been told its member id yet, so it cannot send heartbeats."""
    join: int | None = None
    """Ticket of the JoinGroup that waits."""
    sync: int | None = None
    """Ticket of the SyncGroup that waits."""
    owes_sync: bool = False
    """Was told the new generation and has not sent its SyncGroup."""

    @property
    def waiting(self) -> bool:
        """Waits for an answer of ours, so it owes no heartbeat."""
        return self.join is not None or self.sync is not None

    @property
    def nbytes(self) -> int:
        """What it makes us keep: metadata and assignment."""
        return sum(len(name) + len(data) for name, data in self.protocols) + len(self.assignment)

    def metadata(self, protocol: str | None) -> bytes:
        return next((data for name, data in self.protocols if name == protocol), b"")


@dataclass(frozen=True, slots=True)
class Group:
    """A group between two decisions. `members` is in the order they came, and never changed in place."""

    group_id: str
    state: GroupState = GroupState.EMPTY
    generation: int = 0
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str | None = None
    members: Mapping[str, Member] = field(default_factory=dict)
    pending: frozenset[str] = frozenset()
    """Member ids that were given out (KIP-394) and have not come back yet."""
    since: int = -1
    """Wall ms of the last change of state; offsets of an empty group age from here."""
    delay_left: int | None = None
    """ms that the first rebalance of an empty group may still be put off; None in any other rebalance."""
    more_came: bool = False
    """A member came during this delay, so it is worth waiting again."""

    @property
    def rebalance_timeout(self) -> int:
        """ms; the longest any member asks for."""
        return max((m.rebalance_timeout for m in self.members.values()), default=0)

    @property
    def nbytes(self) -> int:
        return sum(member.nbytes for member in self.members.values())

    @property
    def all_joined(self) -> bool:
        return not self.pending and all(m.join is not None for m in self.members.values())

    def static(self, instance_id: str | None) -> Member | None:
        """The member that holds this group.instance.id."""
        if instance_id is None:
            return None
        return next((m for m in self.members.values() if m.instance_id == instance_id), None)

    def supports(self, protocol_type: str, protocols: Protocols) -> bool:
        """Whether a member of these protocols may join: one of them is known to everybody who is here."""
        if not self.members:
            return bool(protocol_type) and bool(protocols)
        shared = self.shared_protocols()
        return protocol_type == self.protocol_type and any(name in shared for name, _ in protocols)

    def shared_protocols(self) -> set[str]:
        """Names that every member can do."""
        return set.intersection(*({name for name, _ in m.protocols} for m in self.members.values()))

    def choose_protocol(self) -> str:
        """The shared protocol that most members like best; between equals, the one the first members like."""
        shared = self.shared_protocols()
        votes: dict[str, int] = {}
        for member in self.members.values():
            name = next(name for name, _ in member.protocols if name in shared)
            votes[name] = votes.get(name, 0) + 1
        return max(votes, key=votes.__getitem__)

    def with_member(self, member: Member) -> "Group":
        return replace(self, members={**self.members, member.member_id: member})

    def without(self, member_ids: set[str]) -> "Group":
        """Without these members; the oldest of the rest leads if the leader is among them."""
        members = {id_: m for id_, m in self.members.items() if id_ not in member_ids}
        leader = self.leader if self.leader in members else next(iter(members), None)
        return replace(self, members=members, leader=leader)
