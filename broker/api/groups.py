"""The asyncio side of the group coordinators: appends what they decide, answers who waits, keeps timers.

Nobody is told anything before the records it rests on are on disk. A decision whose records cannot be
appended is dropped: whoever asked is told COORDINATOR_NOT_AVAILABLE and asks again, everybody else waits on.
"""

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeVar

import structlog

from tailrace.broker.api.alarm import Alarm, moment
from tailrace.broker.api.broker import Broker
from tailrace.broker.api.journal import CONFIG, OFFSETS_TOPIC, PARTITIONS, Entry, Journal
from tailrace.broker.coordinator.commit import CommitRequest, OffsetAnswer
from tailrace.broker.coordinator.group_messages import (
    Joined,
    JoinRequest,
    LeaveRequest,
    Left,
    Synced,
    SyncRequest,
)
from tailrace.broker.coordinator.group_step import GroupLimits, GroupStep
from tailrace.broker.coordinator.groups import CommitStep, GroupCoordinator
from tailrace.broker.coordinator.moment import Moment
from tailrace.broker.coordinator.offsets import TopicPartition
from tailrace.broker.coordinator.partition import coordinator_partition
from tailrace.broker.log.errors import InvalidProducerEpoch, LogError
from tailrace.broker.wire.errors import ErrorCode, KafkaError
from tailrace.failpoint import failpoint

_log = structlog.get_logger("tailrace.broker.groups")
T = TypeVar("T")
Errors = Mapping[TopicPartition, ErrorCode]
_AGAIN = ErrorCode.coordinator_not_available


@dataclass(frozen=True, slots=True)
class Fetched:
    """Committed offsets of one group."""

    error: ErrorCode
    offsets: Sequence[tuple[TopicPartition, OffsetAnswer]]


class _Shard:
    """One partition of `__consumer_offsets`, and the groups that Kafka's hash puts there."""

    def __init__(self, journal: Journal, limits: GroupLimits) -> None:
        self.journal = journal
        self.coordinator = GroupCoordinator(limits)

    def take(self, entry: Entry) -> None:
        """One batch of the log, at start."""
        if entry.commit is not None and entry.producer_id is not None:
            self.coordinator.end_transaction(entry.producer_id, commit=entry.commit)
        else:
            self.coordinator.replay(entry.records, entry.producer_id)


class Groups:
    """All groups of this broker. All methods belong to the event loop."""

    def __init__(self, broker: Broker, limits: GroupLimits | None = None) -> None:
        self._broker = broker
        delay = round(broker.settings.group_delay * 1000)
        self._limits = limits or GroupLimits(initial_delay=delay)
        self._shards: list[_Shard] = []
        self._tickets = count(1)
        self._waiting: dict[int, tuple[asyncio.Future[Any], Any]] = {}
        """By ticket: who waits, and what it is told when it cannot be answered."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm = Alarm(broker.clock, self._earliest, self._ring)
        self._retention: asyncio.TimerHandle | None = None

    async def load(self) -> None:
        """Before the first connection: reads all of `__consumer_offsets`. Corrupt when it cannot be read."""
        topic = await self._broker.ensure_topic(OFFSETS_TOPIC, PARTITIONS, CONFIG)
        for log in topic.partitions:
            shard = _Shard(Journal(self._broker, log), self._limits)
            shard.journal.replay(shard.take)
            shard.coordinator.resume(self._now())
            self._shards.append(shard)
        there = self._broker.store.topics().keys()
        for shard in self._shards:
            # Killed between a topic's deletion and this: its offsets are still here.
            self._carry_out_all(
                shard, shard.coordinator.topics_deleted(shard.coordinator.offsets.topics() - there)
            )
        self._alarm.set()
        self._expire()

    async def close(self) -> None:
        """Before the server stops: tells everybody who waits to ask again, and lets no timer fire."""
        self._alarm.close()
        if self._retention is not None:
            self._retention.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        self._answer([(ticket, refused) for ticket, (_, refused) in self._waiting.items()])

    def join(self, request: JoinRequest) -> Awaitable[Joined]:
        shard, ticket = self._shard(request.group_id), next(self._tickets)
        step = shard.coordinator.join(request, ticket, self._now())
        return self._ask(shard, step, ticket, Joined(_AGAIN))

    def sync(self, request: SyncRequest) -> Awaitable[Synced]:
        shard, ticket = self._shard(request.group_id), next(self._tickets)
        step = shard.coordinator.sync(request, ticket, self._now())
        return self._ask(shard, step, ticket, Synced(_AGAIN))

    def leave(self, request: LeaveRequest) -> Awaitable[Left]:
        shard, ticket = self._shard(request.group_id), next(self._tickets)
        step = shard.coordinator.leave(request, ticket, self._now())
        return self._ask(shard, step, ticket, Left(_AGAIN))

    def heartbeat(self, group_id: str, member_id: str, instance_id: str | None, generation: int) -> ErrorCode:
        coordinator = self._shard(group_id).coordinator
        return coordinator.heartbeat(group_id, member_id, instance_id, generation, self._now())

    def commit(self, request: CommitRequest) -> Awaitable[Errors]:
        """The error of each partition, once the offsets are on disk."""
        shard = self._shard(request.group_id)
        step = shard.coordinator.commit(request, self._now())
        refused = dict.fromkeys(request.offsets, _AGAIN)
        try:
            self._append(shard, step)
        except InvalidProducerEpoch:
            return _now(dict.fromkeys(request.offsets, ErrorCode.invalid_producer_epoch))
        except (KafkaError, LogError, OSError) as error:
            _log.error("cannot store offsets", group=request.group_id, error=str(error))
            return _now(refused)
        return self._when_synced(shard, step.errors, refused)

    def fetch(
        self, group_id: str, places: Iterable[TopicPartition] | None, *, require_stable: bool
    ) -> Awaitable[Fetched]:
        """The committed offsets, all of them on disk when they are told; `places` None: all there are."""
        shard = self._shard(group_id)
        answers = shard.coordinator.fetch(group_id, places, require_stable=require_stable)
        refused = [(place, OffsetAnswer(error=_AGAIN)) for place, _ in answers]
        return self._when_synced(shard, Fetched(ErrorCode.none, answers), Fetched(_AGAIN, refused))

    def partition_of(self, group_id: str) -> int:
        """The partition of `__consumer_offsets` that has this group."""
        return coordinator_partition(group_id, len(self._shards))

    def end_transaction(self, partition: int, producer_id: int, *, commit: bool) -> None:
        """A marker was appended to this partition: what the producer left there counts, or never does."""
        self._shards[partition].coordinator.end_transaction(producer_id, commit=commit)

    def topic_deleted(self, name: str) -> None:
        """Forgets the topic's offsets, so that one made anew under its name begins at its beginning."""
        for shard in self._shards:
            self._carry_out_all(shard, shard.coordinator.topics_deleted({name}))

    def _shard(self, group_id: str) -> _Shard:
        return self._shards[self.partition_of(group_id)]

    def _now(self) -> Moment:
        return moment(self._broker.clock)

    def _ask(self, shard: _Shard, step: GroupStep, ticket: int, refused: T) -> Awaitable[T]:
        waiter: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = waiter, refused
        if not self._carry_out(shard, step):
            self._answer([(ticket, refused)])
        return waiter

    def _append(self, shard: _Shard, step: GroupStep | CommitStep) -> None:
        at = -1
        if step.records:
            producer = step.producer if isinstance(step, CommitStep) else None
            failpoint("groups.before_append")
            at = shard.journal.append(step.records, producer)
            failpoint("groups.after_append")
        shard.coordinator.settle(step, at)

    def _carry_out(self, shard: _Shard, step: GroupStep) -> bool:
        """False when the records could not be appended: the step has not happened."""
        try:
            self._append(shard, step)
        except (KafkaError, LogError, OSError) as error:
            _log.error("cannot store a group", group=step.group.group_id, error=str(error))
            self._alarm.set()
            return False
        self._alarm.set()
        if shard.journal.is_synced():
            self._answer(step.answers)
        elif step.answers:
            self._spawn(self._answer_later(shard, step.answers))
        return True

    def _carry_out_all(self, shard: _Shard, steps: Iterable[CommitStep]) -> None:
        for step in steps:
            try:
                self._append(shard, step)
            except (KafkaError, LogError, OSError) as error:
                # They are still there at the next check, or at the next start.
                _log.error("cannot forget offsets", group=step.group_id, error=str(error))
                return

    async def _answer_later(self, shard: _Shard, answers: Sequence[tuple[int, Any]]) -> None:
        try:
            await shard.journal.synced()
            failpoint("groups.synced")
        except (KafkaError, OSError) as error:
            _log.error("cannot bring a group to disk", error=str(error))
            answers = [(ticket, replace(answer, error=_AGAIN)) for ticket, answer in answers]
        self._answer(answers)

    def _answer(self, answers: Iterable[tuple[int, Any]]) -> None:
        for ticket, answer in answers:
            waiter, _ = self._waiting.pop(ticket, (None, None))
            if waiter is not None and not waiter.done():
                waiter.set_result(answer)

    async def _when_synced(self, shard: _Shard, answer: T, refused: T) -> T:
        try:
            await shard.journal.synced()
            failpoint("groups.offsets_synced")
        except (KafkaError, OSError) as error:
            _log.error("cannot bring offsets to disk", error=str(error))
            return refused
        return answer

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _earliest(self) -> int | None:
        deadlines = [shard.coordinator.next_deadline() for shard in self._shards]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _ring(self) -> None:
        for shard in self._shards:
            for step in shard.coordinator.due(self._now()):
                self._carry_out(shard, step)

    def _expire(self) -> None:
        for shard in self._shards:
            self._carry_out_all(shard, shard.coordinator.expired(self._now()))
        delay = self._limits.retention_check / 1000
        self._retention = asyncio.get_running_loop().call_later(delay, self._expire)


async def _now(answer: T) -> T:
    return answer
