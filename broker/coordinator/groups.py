"""The groups of one partition of `__consumer_offsets`: step in, records and answers out.

How a driver uses it, for every request and every timer that is due:

    step = coordinator.join(request, ticket, now)         # decides; nothing has changed yet
    at = log.append(step.records)                         # if there are any; when it fails, drop the step
    coordinator.settle(step, at)                          # now it counts
    ... when everything appended so far is on disk:       # so nobody is told what a power cut could take back
    for ticket, answer in step.answers: send

At start every batch of the log goes through replay(); then resume() starts the sessions of the members.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from tailrace.broker.coordinator import rebalance
from tailrace.broker.coordinator.commit import (
    CommitRequest,
    OffsetAnswer,
    fetch_offsets,
    refuse_commit,
    split_commit,
)
from tailrace.broker.coordinator.group import Group, GroupState
from tailrace.broker.coordinator.group_messages import (
    Joined,
    JoinRequest,
    LeaveRequest,
    Left,
    Synced,
    SyncRequest,
)
from tailrace.broker.coordinator.group_records import (
    Record,
    group_record,
    group_tombstone,
    offset_record,
    restore_group,
    restore_offset,
)
from tailrace.broker.coordinator.group_step import GroupLimits, GroupStep, Timer
from tailrace.broker.coordinator.join import join
from tailrace.broker.coordinator.membership import forget_pending, heartbeat, leave, session_due
from tailrace.broker.coordinator.moment import Moment
from tailrace.broker.coordinator.offsets import Committed, Offsets, TopicPartition
from tailrace.broker.coordinator.retention import expired_offsets
from tailrace.broker.coordinator.sync import sync
from tailrace.broker.coordinator.timers import Timers
from tailrace.broker.wire.coordinator_records import (
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
    decode_group_key,
    decode_value,
)
from tailrace.broker.wire.errors import ErrorCode

RETRY = 1_000
"""ms after which a timer whose records could not be appended is tried again."""


@dataclass(frozen=True, slots=True)
class CommitStep:
    """Offsets to store; `errors` is the answer once they are on disk.

    With `producer`, (id, epoch), they are held for the marker that ends its transaction.
    """

    group_id: str
    offsets: dict[TopicPartition, Committed | None]
    errors: dict[TopicPartition, ErrorCode]
    records: Sequence[Record]
    producer: tuple[int, int] | None = None
    forget_group: bool = False


class GroupCoordinator:
    """All state of one coordinator partition. Not thread-safe; every method returns at once."""

    def __init__(self, limits: GroupLimits | None = None) -> None:
        self.limits = limits or GroupLimits()
        self.offsets = Offsets()
        self._groups: dict[str, Group] = {}
        self._timers: Timers[Timer] = Timers()
        self._bytes = 0

    def group(self, group_id: str) -> Group:
        """The group as it is; an empty one when nobody has heard of it."""
        return self._groups.get(group_id) or Group(group_id)

    def groups(self) -> Collection[Group]:
        return tuple(self._groups.values())

    def join(self, request: JoinRequest, ticket: int, now: Moment) -> GroupStep:
        step = self._step(request.group_id, now)
        join(step, request, ticket)
        if self._is_too_much(step):
            step = self._step(request.group_id, now)
            step.answer(ticket, Joined(ErrorCode.group_max_size_reached, member_id=request.member_id))
        return self._finish(step)

    def sync(self, request: SyncRequest, ticket: int, now: Moment) -> GroupStep:
        step = self._step(request.group_id, now)
        sync(step, request, ticket)
        if self._is_too_much(step):
            step = self._step(request.group_id, now)
            step.answer(ticket, Synced(ErrorCode.unknown_server_error))
        return self._finish(step)

    def heartbeat(
        self, group_id: str, member_id: str, instance_id: str | None, generation: int, now: Moment
    ) -> ErrorCode:
        """Answered at once: a heartbeat persists nothing."""
        if not group_id:
            return ErrorCode.invalid_group_id
        step = self._step(group_id, now)
        error = heartbeat(step, member_id, instance_id, generation)
        for timer, deadline in step.timers.items():
            self._timers.set(timer, deadline)
        return error

    def leave(self, request: LeaveRequest, ticket: int, now: Moment) -> GroupStep:
        step = self._step(request.group_id, now)
        answer = leave(step, request) if request.group_id else Left(ErrorCode.invalid_group_id)
        step.answer(ticket, answer)
        return self._finish(step)

    def commit(self, request: CommitRequest, now: Moment) -> CommitStep:
        """Stores nothing for a partition whose answer is an error."""
        group = self.group(request.group_id)
        known = request.group_id in self._groups or bool(self.offsets.of(request.group_id))
        error = refuse_commit(group, request, known=known)
        if error is not ErrorCode.none:
            return CommitStep(request.group_id, {}, dict.fromkeys(request.offsets, error), ())
        if request.producer is None and request.generation >= 0:
            member = group.members[request.member_id]
            if not member.waiting:
                self._timers.set(
                    Timer("session", request.group_id, member.member_id), now.steady + member.session_timeout
                )
        stored, errors = split_commit(request, self.limits, now.wall)
        records = [offset_record(request.group_id, place, c) for place, c in stored.items()]
        return CommitStep(request.group_id, {**stored}, errors, records, request.producer)

    def fetch(
        self, group_id: str, places: Iterable[TopicPartition] | None, *, require_stable: bool
    ) -> Sequence[tuple[TopicPartition, OffsetAnswer]]:
        return fetch_offsets(self.offsets, group_id, places, require_stable=require_stable)

    def end_transaction(self, producer_id: int, *, commit: bool) -> None:
        """The producer's marker was appended to this partition."""
        self.offsets.end(producer_id, commit=commit)

    def settle(self, step: GroupStep | CommitStep, at: int) -> None:
        """The step's records are in the log, the first of them at offset `at`."""
        if isinstance(step, CommitStep):
            self._settle_offsets(step, at)
            return
        group = step.group
        self._bytes += group.nbytes - self.group(group.group_id).nbytes
        if group.members or group.pending or group.state is not GroupState.EMPTY or group.generation:
            self._groups[group.group_id] = group
        else:
            self._groups.pop(group.group_id, None)
        for timer, deadline in step.timers.items():
            self._timers.set(timer, deadline)

    def next_deadline(self) -> int | None:
        """Steady ms at which due() has something."""
        return self._timers.next()

    def due(self, now: Moment) -> Iterator[GroupStep]:
        """A step for each timer that is due; settle (or drop) each before the next is asked for."""
        while (timer := self._timers.pop(now.steady)) is not None:
            # Until the step is settled it has not happened: a dropped one comes again.
            self._timers.set(timer, now.steady + RETRY)
            step = self._step(timer.group_id, now)
            step.timers[timer] = None
            _DUE[timer.kind](step, timer.member_id)
            yield self._finish(step)

    def expired(self, now: Moment) -> Iterator[CommitStep]:
        """What retention takes, group by group; as with due(), settle each before the next."""
        for group_id in dict.fromkeys([*self.offsets.groups(), *self._groups]):
            group = self.group(group_id)
            gone = expired_offsets(group, self.offsets, now.wall, self.limits.retention)
            yield from self._forget(group, gone)

    def topics_deleted(self, names: Collection[str]) -> Iterator[CommitStep]:
        """Offsets of topics that are no more: a topic made anew under the name must not inherit them."""
        for group_id in tuple(self.offsets.groups()):
            yield from self._forget(
                self.group(group_id), [place for place in self.offsets.of(group_id) if place[0] in names]
            )

    def replay(
        self, records: Iterable[tuple[int, bytes | None, bytes | None]], producer_id: int | None
    ) -> None:
        """Records of one batch as (offset, key, value); `producer_id` when the batch is transactional.

        Corrupt when a record of a known kind cannot be read. Control batches go to end_transaction().
        """
        for at, key_bytes, value in records:
            key = decode_group_key(key_bytes) if key_bytes is not None else None
            if key is None:
                continue
            if isinstance(key, OffsetCommitKey):
                place = (key.topic, key.partition)
                found = None if value is None else restore_offset(decode_value(OffsetCommitValue, value), at)
                if producer_id is None:
                    self.offsets.put(key.group, place, found)
                elif found is not None:
                    self.offsets.hold(producer_id, key.group, place, found)
            elif value is None:
                self._groups.pop(key.group, None)
            else:
                self._groups[key.group] = restore_group(key.group, decode_value(GroupMetadataValue, value))

    def resume(self, now: Moment) -> None:
        """After replay: everybody who was a member has one session time-out to show up."""
        for group in self._groups.values():
            self._bytes += group.nbytes
            for member in group.members.values():
                timer = Timer("session", group.group_id, member.member_id)
                self._timers.set(timer, now.steady + member.session_timeout)

    def _step(self, group_id: str, now: Moment) -> GroupStep:
        return GroupStep(self.group(group_id), now, self.limits)

    def _is_too_much(self, step: GroupStep) -> bool:
        """Whether the step would make us keep more than max_bytes for members."""
        grown = step.group.nbytes - self.group(step.group.group_id).nbytes
        return grown > 0 and self._bytes + grown > self.limits.max_bytes

    def _finish(self, step: GroupStep) -> GroupStep:
        if step.store:
            step.records = [group_record(step.group)]
        return step

    def _settle_offsets(self, step: CommitStep, at: int) -> None:
        for index, (place, committed) in enumerate(step.offsets.items()):
            stored = None if committed is None else replace(committed, at=at + index)
            if step.producer is not None and stored is not None:
                self.offsets.hold(step.producer[0], step.group_id, place, stored)
            else:
                self.offsets.put(step.group_id, place, stored)
        if step.forget_group:
            self._groups.pop(step.group_id, None)

    def _forget(self, group: Group, places: Sequence[TopicPartition]) -> Iterator[CommitStep]:
        """Tombstones for these offsets, and for the group when nothing is left of it."""
        idle = group.state is GroupState.EMPTY and not group.pending and group.group_id in self._groups
        left = self.offsets.of(group.group_id).keys() - set(places)
        forget = idle and not left and not self.offsets.unstable(group.group_id)
        records = [offset_record(group.group_id, place, None) for place in places]
        if forget:
            records.append(group_tombstone(group.group_id))
        if records:
            yield CommitStep(group.group_id, dict.fromkeys(places), {}, records, forget_group=forget)


_DUE: dict[str, Callable[[GroupStep, str], None]] = {
    "join": lambda step, _: rebalance.join_due(step),
    "sync": lambda step, _: rebalance.sync_due(step),
    "session": session_due,
    "pending": forget_pending,
}
