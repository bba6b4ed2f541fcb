"""A group coordinator with its log as a list: what the transcripts and the random histories drive."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tailrace.broker.coordinator.commit import CommitRequest
from tailrace.broker.coordinator.group_messages import JoinRequest, LeaveRequest, SyncRequest
from tailrace.broker.coordinator.group_step import GroupLimits, GroupStep
from tailrace.broker.coordinator.groups import CommitStep, GroupCoordinator
from tailrace.broker.coordinator.moment import Moment
from tailrace.broker.wire.errors import ErrorCode


@dataclass
class Entry:
    """One appended batch: records of a step, or a marker."""

    at: int
    records: list[tuple[bytes, bytes | None]]
    producer_id: int | None = None
    marker: bool | None = None


@dataclass
class GroupWorld:
    """`answers` are (ticket, answer) of everything that was told, in order; a crash loses what waits."""

    limits: GroupLimits = field(default_factory=GroupLimits)
    now: Moment = field(default_factory=lambda: Moment(1_700_000_000_000, 0))
    log: list[Entry] = field(default_factory=list)
    answers: list[tuple[Any, Any]] = field(default_factory=list)
    fail_next: bool = False
    """The next append fails, as on a full disk."""

    def __post_init__(self) -> None:
        self.coordinator = GroupCoordinator(self.limits)

    def join(self, request: JoinRequest, ticket: Any) -> None:
        self._run(self.coordinator.join(request, ticket, self.now), ticket)

    def sync(self, request: SyncRequest, ticket: Any) -> None:
        self._run(self.coordinator.sync(request, ticket, self.now), ticket)

    def leave(self, request: LeaveRequest, ticket: Any) -> None:
        self._run(self.coordinator.leave(request, ticket, self.now), ticket)

    def heartbeat(self, group: str, member: str, instance: str | None, generation: int) -> ErrorCode:
        return self.coordinator.heartbeat(group, member, instance, generation, self.now)

    def commit(self, request: CommitRequest) -> dict[tuple[str, int], ErrorCode]:
        step = self.coordinator.commit(request, self.now)
        if not self._append(step):
            return dict.fromkeys(request.offsets, ErrorCode.coordinator_not_available)
        return step.errors

    def end_transaction(self, producer_id: int, *, commit: bool) -> None:
        self.log.append(Entry(self.end, [], producer_id, commit))
        self.coordinator.end_transaction(producer_id, commit=commit)

    def expire(self) -> None:
        self._append_all(self.coordinator.expired(self.now))

    def delete_topics(self, names: set[str]) -> None:
        self._append_all(self.coordinator.topics_deleted(names))

    def advance(self, ms: int) -> None:
        """Lets time pass, deadline by deadline."""
        end = self.now.steady + ms
        while (due := self.coordinator.next_deadline()) is not None and due <= end:
            self._turn_to(max(due, self.now.steady))
            for step in self.coordinator.due(self.now):
                self._run(step, None)
        self._turn_to(end)

    def crash(self) -> None:
        """The process dies and starts again: what is left is what the log says."""
        self.coordinator = GroupCoordinator(self.limits)
        for entry in self.log:
            if entry.marker is not None:
                assert entry.producer_id is not None
                self.coordinator.end_transaction(entry.producer_id, commit=entry.marker)
            else:
                records = [(entry.at + i, key, value) for i, (key, value) in enumerate(entry.records)]
                self.coordinator.replay(records, entry.producer_id)
        self.coordinator.resume(self.now)

    @property
    def end(self) -> int:
        return self.log[-1].at + max(len(self.log[-1].records), 1) if self.log else 0

    def _turn_to(self, steady: int) -> None:
        self.now = Moment(self.now.wall + steady - self.now.steady, steady)

    def _append_all(self, steps: Iterable[CommitStep]) -> None:
        for step in steps:
            self._append(step)

    def _append(self, step: GroupStep | CommitStep) -> bool:
        at = self.end
        if step.records:
            if self.fail_next:
                self.fail_next = False
                return False
            producer = step.producer[0] if isinstance(step, CommitStep) and step.producer else None
            self.log.append(Entry(at, list(step.records), producer))
        self.coordinator.settle(step, at)
        return True

    def _run(self, step: GroupStep, ticket: Any) -> None:
        if self._append(step):
            self.answers.extend(step.answers)
        elif ticket is not None:
            self.answers.append((ticket, ErrorCode.coordinator_not_available))
