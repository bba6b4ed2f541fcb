"""The asyncio side of the transaction coordinators, and the order on disk that makes a commit a commit:

    1. the rows are fsynced                      3. EndTxn is answered; markers are appended and fsynced
    2. PREPARE is appended and fsynced           4. COMPLETE is appended

So a commit that was answered is never lost, and one that was not is whole or not at all. What a request has
begun goes on when its connection is gone.
"""

import asyncio
from collections.abc import Awaitable, Collection, Coroutine
from typing import Any, TypeVar

import structlog

from tailrace.broker.api.alarm import Alarm, moment
from tailrace.broker.api.broker import Broker
from tailrace.broker.api.journal import (
    CONFIG,
    OFFSETS_TOPIC,
    PARTITIONS,
    TRANSACTIONS_TOPIC,
    Entry,
    Journal,
)
from tailrace.broker.api.markers import MarkerWriter
from tailrace.broker.api.producer_ids import ProducerIdFile
from tailrace.broker.coordinator.moment import Moment
from tailrace.broker.coordinator.offsets import TopicPartition
from tailrace.broker.coordinator.partition import coordinator_partition
from tailrace.broker.coordinator.transaction import Markers, TxnStep
from tailrace.broker.coordinator.transaction_rules import Initialized, Producer
from tailrace.broker.coordinator.transactions import TransactionCoordinator, TxnLimits
from tailrace.broker.log.errors import LogError
from tailrace.broker.wire.errors import ErrorCode, KafkaError
from tailrace.failpoint import failpoint

_log = structlog.get_logger("tailrace.broker.transactions")
T = TypeVar("T")
_AGAIN = ErrorCode.coordinator_not_available
_RETRY = 1.0
"""Seconds until markers that the disk refused are tried again."""
_EXPIRY_CHECK = 3600.0
_PRODUCE_ERRORS = {
    ErrorCode.producer_fenced: ErrorCode.invalid_producer_epoch,
    ErrorCode.concurrent_transactions: ErrorCode.not_enough_replicas,
}
_OFFSET_ERRORS = {
    ErrorCode.producer_fenced: ErrorCode.invalid_producer_epoch,
    ErrorCode.concurrent_transactions: ErrorCode.coordinator_load_in_progress,
}
"""In requests that have no word for it, Kafka says the same with another one that clients act on alike."""


class _Shard:
    """One partition of `__transaction_state`, and the transactional ids that Kafka's hash puts there."""

    def __init__(self, journal: Journal, limits: TxnLimits) -> None:
        self.journal = journal
        self.coordinator = TransactionCoordinator(limits)

    def take(self, entry: Entry) -> None:
        """One batch of the log, at start."""
        self.coordinator.replay(entry.records)


class Transactions:
    """All transactional ids of this broker, and its producer ids. All methods belong to the event loop."""

    def __init__(self, broker: Broker, limits: TxnLimits | None = None) -> None:
        self._broker = broker
        self._limits = limits or TxnLimits()
        self._shards: list[_Shard] = []
        self._ids = ProducerIdFile(broker)
        self._markers = MarkerWriter(broker)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._alarm = Alarm(broker.clock, self._earliest, self._ring)
        self._expiry: asyncio.TimerHandle | None = None

    async def load(self) -> None:
        """After Groups.load and before the first connection: reads all of `__transaction_state`, and goes on
        with what was being committed or aborted. Corrupt when it cannot be read.
        """
        topic = await self._broker.ensure_topic(TRANSACTIONS_TOPIC, PARTITIONS, CONFIG)
        prepared: list[tuple[_Shard, Markers]] = []
        for log in topic.partitions:
            shard = _Shard(Journal(self._broker, log), self._limits)
            shard.journal.replay(shard.take)
            prepared += [(shard, markers) for markers in shard.coordinator.resume(self._now())]
            self._shards.append(shard)
        self._ids.load()
        self._take_stock()
        for shard, markers in prepared:
            self._spawn(self._finish(shard, markers))
        self._alarm.set()
        self._expire()

    async def close(self) -> None:
        """At shutdown, before the logs are closed. What is prepared is finished at the next start."""
        self._alarm.close()
        if self._expiry is not None:
            self._expiry.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def initialize(
        self, transactional_id: str | None, expected: Producer | None, timeout: int
    ) -> Initialized:
        """InitProducerId; without a transactional id simply the next producer id. `timeout` in ms."""
        try:
            await self._ids.ready()
        except OSError as error:
            _log.error("cannot claim producer ids", error=str(error))
            return Initialized(_AGAIN)
        if transactional_id is None:
            return Initialized(ErrorCode.none, self._ids.take(), 0)
        shard = self._shard(transactional_id)
        answer, step = shard.coordinator.initialize(
            transactional_id, expected, timeout, self._ids.take, self._now()
        )
        return await self._carry_out(shard, step, answer, Initialized(_AGAIN))

    def add_partitions(
        self, transactional_id: str, producer: Producer, places: Collection[TopicPartition]
    ) -> Awaitable[ErrorCode]:
        """The partitions exist. Answers when it is on disk that they take part, so before any row is."""
        shard = self._shard(transactional_id)
        error, step = shard.coordinator.add_partitions(transactional_id, producer, places, self._now())
        return self._carry_out(shard, step, error, _AGAIN)

    def add_group(self, transactional_id: str, producer: Producer, group_id: str) -> Awaitable[ErrorCode]:
        """AddOffsetsToTxn: the group's partition of `__consumer_offsets` gets a marker too."""
        return self.add_partitions(transactional_id, producer, [self._place_of(group_id)])

    def end(self, transactional_id: str, producer: Producer, *, commit: bool) -> Awaitable[ErrorCode]:
        """EndTxn: `none` once the end is certain, whatever happens after."""
        shard = self._shard(transactional_id)
        error, step = shard.coordinator.end(transactional_id, producer, commit=commit, now=self._now())
        if step is None or step.flush is None:
            return self._carry_out(shard, step, error, _AGAIN)
        shard.coordinator.settle(step)
        return asyncio.shield(self._spawn(self._commit(shard, transactional_id, step.flush)))

    def admits(
        self, transactional_id: str | None, producer_id: int, producer_epoch: int, topic: str, partition: int
    ) -> ErrorCode:
        """`none`, or why Produce may not append this transactional batch (KIP-890, part 1)."""
        if transactional_id is None:
            return ErrorCode.transactional_id_authorization_failed
        coordinator = self._shard(transactional_id).coordinator
        error = coordinator.admits(
            transactional_id, Producer(producer_id, producer_epoch), (topic, partition)
        )
        return _PRODUCE_ERRORS.get(error, error)

    def admits_offsets(self, transactional_id: str, producer: Producer, group_id: str) -> ErrorCode:
        """`none`, or why TxnOffsetCommit may not leave offsets of this group."""
        coordinator = self._shard(transactional_id).coordinator
        error = coordinator.admits(transactional_id, producer, self._place_of(group_id))
        return _OFFSET_ERRORS.get(error, error)

    def _place_of(self, group_id: str) -> TopicPartition:
        return OFFSETS_TOPIC, self._broker.groups.partition_of(group_id)

    def _shard(self, transactional_id: str) -> _Shard:
        return self._shards[coordinator_partition(transactional_id, len(self._shards))]

    def _now(self) -> Moment:
        return moment(self._broker.clock)

    def _carry_out(self, shard: _Shard, step: TxnStep | None, answer: T, refused: T) -> Awaitable[T]:
        """Appends now, and answers when everything that was appended is on disk."""
        if step is not None:
            try:
                self._append(shard, step)
            except (KafkaError, LogError, OSError) as error:
                _log.error("cannot store a transaction", id=step.txn.transactional_id, error=str(error))
                return _now(refused)
        return self._when_synced(shard, answer, refused)

    def _append(self, shard: _Shard, step: TxnStep) -> None:
        failpoint("transactions.before_append")
        if step.records:
            shard.journal.append(step.records)
            failpoint("transactions.after_append")
        shard.coordinator.settle(step)
        if step.markers is not None:
            self._spawn(self._finish(shard, step.markers))
        self._alarm.set()

    async def _when_synced(self, shard: _Shard, answer: T, refused: T) -> T:
        try:
            await shard.journal.synced()
            failpoint("transactions.synced")
        except (KafkaError, OSError) as error:
            _log.error("cannot bring a transaction to disk", error=str(error))
            return refused
        return answer

    async def _commit(
        self, shard: _Shard, transactional_id: str, places: Collection[TopicPartition]
    ) -> ErrorCode:
        try:
            await self._markers.synced(places)
            failpoint("transactions.rows_synced")
            self._append(shard, shard.coordinator.prepare(transactional_id, self._now()))
        except (KafkaError, LogError, OSError) as error:
            _log.error("cannot commit", id=transactional_id, error=str(error))
            shard.coordinator.give_up(transactional_id)
            return _AGAIN
        return await self._when_synced(shard, ErrorCode.none, _AGAIN)

    async def _finish(self, shard: _Shard, markers: Markers) -> None:
        """From PREPARE to COMPLETE, for as long as it takes."""
        written: set[TopicPartition] = set()
        while True:
            try:
                await shard.journal.synced()
                failpoint("transactions.prepare_synced")
                for place in sorted(markers.partitions - written):
                    self._markers.write(
                        place,
                        markers.producer_id,
                        markers.epoch,
                        commit=markers.commit,
                        coordinator_epoch=shard.journal.log.leader_epoch,
                    )
                    written.add(place)
                await self._markers.synced(markers.partitions)
                failpoint("transactions.markers_synced")
                self._append(shard, shard.coordinator.complete(markers.transactional_id, self._now()))
            except (KafkaError, LogError, OSError) as error:
                _log.error("cannot end a transaction yet", id=markers.transactional_id, error=str(error))
                await asyncio.sleep(_RETRY)
            else:
                return

    def _take_stock(self) -> None:
        """Producer ids that are in use are not given again; no open transaction is left without an owner."""
        txns = [txn for shard in self._shards for txn in shard.coordinator.transactions()]
        for txn in txns:
            self._ids.seen(txn.producer_id)
        self._ids.seen(self._markers.abort_orphans({(t.producer_id, p) for t in txns for p in t.partitions}))

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _earliest(self) -> int | None:
        deadlines = [shard.coordinator.next_deadline() for shard in self._shards]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def _ring(self) -> None:
        for shard in self._shards:
            for step in shard.coordinator.due(self._now()):
                _log.warning("a transaction timed out", id=step.txn.transactional_id)
                self._try(shard, step)

    def _expire(self) -> None:
        for shard in self._shards:
            for step in shard.coordinator.expired(self._now()):
                self._try(shard, step)
        self._expiry = asyncio.get_running_loop().call_later(_EXPIRY_CHECK, self._expire)

    def _try(self, shard: _Shard, step: TxnStep) -> None:
        """What nobody asked for: it comes again when it fails."""
        try:
            self._append(shard, step)
        except (KafkaError, LogError, OSError) as error:
            _log.error("cannot store a transaction", id=step.txn.transactional_id, error=str(error))


async def _now(answer: T) -> T:
    return answer
