"""What every handler is given: the logs, the coordinators, and two ways to wait (for an fsync, for new
rows).
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import structlog

from tailrace.broker.api.flusher import Flusher
from tailrace.broker.api.headroom import Headroom
from tailrace.broker.api.registry import Session
from tailrace.broker.api.waiting import Waiting
from tailrace.broker.log.errors import TopicExists
from tailrace.broker.log.log import Appended, PartitionLog
from tailrace.broker.log.store import LogStore, Topic
from tailrace.broker.wire.errors import ErrorCode, KafkaError
from tailrace.clock import Clock
from tailrace.config.broker import BrokerSettings
from tailrace.fs import FileSystem

if TYPE_CHECKING:
    from tailrace.broker.api.groups import Groups
    from tailrace.broker.api.transactions import Transactions

_EVERY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104
_log = structlog.get_logger("tailrace.broker")
T = TypeVar("T")


class Broker:
    """One broker. All methods are called on the event loop.

    `groups` and `transactions` are the asyncio side of the pure coordinators: they persist what those
    decide, answer who waits, and keep the timers. Each has
        async def load() -> None     before the first connection: reads its topic, finishes PREPARE_*
        async def close() -> None    at shutdown, before the logs are closed: cancels its timers
    and `transactions` answers Produce's question (KIP-890 part 1), synchronously:
        def admits(transactional_id: str | None, producer_id: int, producer_epoch: int,
                   topic: str, partition: int) -> ErrorCode
            none, or why this transactional batch may not be appended
    """

    groups: "Groups"
    transactions: "Transactions"

    def __init__(
        self, settings: BrokerSettings, store: LogStore, *, fs: FileSystem, clock: Clock, host: str, port: int
    ) -> None:
        self.settings = settings
        self.store = store
        self.fs = fs
        self.clock = clock
        self.host = host
        self.port = port
        self.node_id = store.node_id
        self.waiting = Waiting()
        self.on_failure: Callable[[PartitionLog], None] = _ignore
        """Called when a log takes nothing more, because an fsync, or the repair of a failed append,
        failed.
        """
        self.flusher = Flusher(settings.flush_interval, self._flushed)
        self.headroom = Headroom(fs, clock, store.data_dir, settings.min_free)

    def advertised(self, session: Session) -> tuple[str, int]:
        """(host, port) that this client should connect to: the one it came by, when we listen on every
        address.
        """
        return (session.server_host if self.host in _EVERY_ADDRESS else self.host), self.port

    def log(self, topic: str, partition: int) -> PartitionLog:
        """KafkaError UNKNOWN_TOPIC_OR_PARTITION when there is none."""
        log = self.store.log(topic, partition)
        if log is None:
            raise KafkaError(ErrorCode.unknown_topic_or_partition, f"{topic}-{partition}")
        return log

    def append(
        self, log: PartitionLog, batches: bytearray | memoryview, *, control: bool = False
    ) -> Appended:
        """Appends to the page cache and wakes waiting fetches; an fsync follows within flush_interval.

        Raises what PartitionLog.append raises, but KafkaError KAFKA_STORAGE_ERROR for an OSError.
        """
        try:
            appended = log.append(batches, control=control)
        except OSError as error:
            _log.error("append failed", path=log.directory, error=str(error))
            if log.failed is not None:
                self.on_failure(log)
            raise KafkaError(ErrorCode.kafka_storage_error, str(error)) from error
        if not appended.duplicate:
            self.flusher.dirty(log)
            self.waiting.wake(log)
        return appended

    def _flushed(self, log: PartitionLog) -> None:
        self.waiting.wake(log)
        if log.failed is not None:
            self.on_failure(log)

    async def synced(self, log: PartitionLog, offset: int) -> None:
        """Returns when everything of `log` below `offset` is fsynced (group commit).

        KafkaError KAFKA_STORAGE_ERROR when that failed.
        """
        await self.flusher.synced(log, offset)

    def changed(self, log: PartitionLog) -> None:
        """Wakes fetches that wait for `log`, after anything but append() moved its HW or LSO."""
        self.waiting.wake(log)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Runs what blocks (fsyncs of a topic's creation, a scan) off the loop."""
        return await asyncio.get_running_loop().run_in_executor(None, work)

    async def ensure_topic(self, name: str, partitions: int, configs: Mapping[str, str]) -> Topic:
        """The topic; makes it when it is not there, durably. ValueError for a bad name or setting."""
        topic = self.store.topic(name)
        if topic is not None:
            return topic
        try:
            return await self.in_thread(lambda: self.store.create(name, partitions, configs))
        except TopicExists:
            there = self.store.topic(name)
            assert there is not None
            return there
        except OSError as error:
            raise KafkaError(ErrorCode.kafka_storage_error, str(error)) from error

    def topic_deleted(self, topic: Topic) -> None:
        """Tells those who wait for its rows, and the groups, that the topic is gone."""
        for log in topic.partitions:
            self.waiting.wake(log)
        self.groups.topic_deleted(topic.name)


def _ignore(log: PartitionLog) -> None:
    """Nobody has asked."""
