"""What members ask of a group and what they are told: keys 11, 13 and 14, of any version."""

from collections.abc import Sequence
from dataclasses import dataclass

from tailrace.broker.coordinator.group import Protocols
from tailrace.broker.wire.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class JoinRequest:
    group_id: str
    member_id: str
    """Empty at the first try."""
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout: int
    rebalance_timeout: int
    protocol_type: str
    protocols: Protocols
    fresh_id: str
    """The id this member gets if it needs one; the driver makes it, so that there is no randomness here."""
    needs_known_id: bool = True
    """From version 4 on a new dynamic member must come back with the id it was given (KIP-394)."""
    can_skip_assignment: bool = True
    """From version 9 on a returning static leader can be told not to assign anew (KIP-814)."""


@dataclass(frozen=True, slots=True)
class JoinedMember:
    member_id: str
    instance_id: str | None
    metadata: bytes


@dataclass(frozen=True, slots=True)
class Joined:
    """The answer to JoinGroup; `members` is for the leader alone."""

    error: ErrorCode
    member_id: str = ""
    generation: int = -1
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    members: Sequence[JoinedMember] = ()
    skip_assignment: bool = False


@dataclass(frozen=True, slots=True)
class SyncRequest:
    group_id: str
    member_id: str
    instance_id: str | None
    generation: int
    assignments: Sequence[tuple[str, bytes]]
    protocol_type: str | None = None
    protocol: str | None = None


@dataclass(frozen=True, slots=True)
class Synced:
    error: ErrorCode
    protocol_type: str | None = None
    protocol: str | None = None
    assignment: bytes = b""


@dataclass(frozen=True, slots=True)
class LeaveRequest:
    group_id: str
    members: Sequence[tuple[str, str | None]]
    """(member id, group.instance.id); a static member may leave by its instance id alone."""


@dataclass(frozen=True, slots=True)
class Left:
    error: ErrorCode
    members: Sequence[tuple[str, str | None, ErrorCode]] = ()
