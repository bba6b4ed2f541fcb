"""OffsetCommit, TxnOffsetCommit and OffsetFetch: whose commits count, and what is told of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tailrace.broker.coordinator.group import Group, GroupState
from tailrace.broker.coordinator.group_step import GroupLimits
from tailrace.broker.coordinator.membership import check_generation
from tailrace.broker.coordinator.offsets import Committed, Offsets, TopicPartition
from tailrace.broker.wire.errors import ErrorCode


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """Offsets of one group. `generation` -1 with no member id: a client that uses no membership."""

    group_id: str
    member_id: str
    instance_id: str | None
    generation: int
    offsets: Mapping[TopicPartition, tuple[int, int, str]]
    """(offset, leader epoch, metadata) by partition."""
    producer: tuple[int, int] | None = None
    """(producer id, epoch) when the offsets belong to a transaction."""


@dataclass(frozen=True, slots=True)
class OffsetAnswer:
    """What one partition's committed offset is; -1 when there is none."""

    offset: int = -1
    leader_epoch: int = -1
    metadata: str = ""
    error: ErrorCode = ErrorCode.none


def refuse_commit(group: Group, request: CommitRequest, *, known: bool) -> ErrorCode:
    """Why none of these offsets may be committed; `none` when they may.

    `known` is whether anybody has heard of the group: has joined it, or committed offsets.

    While a group rebalances (PREPARING) its members may still commit what they have done; once the new
    generation is out (COMPLETING) their old shares are nobody's. Producers before KIP-447 name no member.
    """
    transactional = request.producer is not None
    if request.generation >= 0 and not known:
        return ErrorCode.illegal_generation
    if request.generation < 0 and group.state is GroupState.EMPTY:
        return ErrorCode.none
    if request.generation >= 0 or request.member_id or request.instance_id is not None:
        error = check_generation(group, request.member_id, request.instance_id, request.generation)
        if error is not ErrorCode.none:
            return error
    elif not transactional:
        return ErrorCode.unknown_member_id
    if not transactional and group.state is GroupState.COMPLETING:
        return ErrorCode.rebalance_in_progress
    return ErrorCode.none


def split_commit(
    request: CommitRequest, limits: GroupLimits, now: int
) -> tuple[dict[TopicPartition, Committed], dict[TopicPartition, ErrorCode]]:
    """What is to be stored, and what is told of each partition when that succeeds. `now` in wall ms."""
    stored: dict[TopicPartition, Committed] = {}
    errors: dict[TopicPartition, ErrorCode] = {}
    for place, (offset, leader_epoch, metadata) in request.offsets.items():
        if len(metadata.encode("utf-16-le", "surrogatepass")) > 2 * limits.max_metadata:
            errors[place] = ErrorCode.offset_metadata_too_large
            continue
        stored[place] = Committed(offset, leader_epoch, metadata, now)
        errors[place] = ErrorCode.none
    return stored, errors


def fetch_offsets(
    offsets: Offsets, group_id: str, places: Iterable[TopicPartition] | None, *, require_stable: bool
) -> Sequence[tuple[TopicPartition, OffsetAnswer]]:
    """The committed offsets of `places`; of all that the group has when None.

    require_stable: a partition whose offset a transaction is about to change answers UNSTABLE_OFFSET_COMMIT.
    """
    committed = offsets.of(group_id)
    unstable = offsets.unstable(group_id) if require_stable else set()
    if places is None:
        places = list(committed)
    answers = []
    for place in places:
        found = committed.get(place)
        if place in unstable:
            answer = OffsetAnswer(error=ErrorCode.unstable_offset_commit)
        elif found is None:
            answer = OffsetAnswer()
        else:
            answer = OffsetAnswer(found.offset, found.leader_epoch, found.metadata)
        answers.append((place, answer))
    return answers
