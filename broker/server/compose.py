"""Puts a broker together: logs, coordinators, flusher, housekeeping, server; and takes it apart in the
right order.
"""

import asyncio
import errno
from collections.abc import Mapping

import structlog

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.groups import Groups
from tailrace.broker.api.registry import registrations
from tailrace.broker.api.transactions import Transactions
from tailrace.broker.log.store import LogStore
from tailrace.broker.server.server import Server
from tailrace.clock import Clock, SystemClock
from tailrace.config.broker import BrokerSettings, TopicSettings
from tailrace.errors import Locked, TailraceError
from tailrace.fs import FileSystem, LocalFileSystem

_log = structlog.get_logger("tailrace.broker")
_HOUSEKEEPING = 30.0
"""Seconds between two rounds of retention, compaction and expiry."""


class CannotListen(TailraceError):
    """The address to listen on does not exist here, or may not be used by us."""


def topic_config(settings: TopicSettings) -> dict[str, str]:
    """The settings under Kafka's names."""
    config = {
        "cleanup.policy": "compact" if settings.compact else "delete",
        "max.message.bytes": str(settings.max_message),
        "retention.ms": str(round(settings.retention * 1000)),
        "segment.bytes": str(settings.segment),
    }
    if settings.retention_bytes is not None:
        config["retention.bytes"] = str(settings.retention_bytes)
    return config


class RunningBroker:
    """A broker from open() to close(). All methods belong to one event loop.

    `address` is (host, port) as it is advertised, once it is open. `failed` is set when a log can take
    nothing more: only a new start, which reads what really is on the disk, makes it whole again.
    """

    def __init__(
        self, settings: BrokerSettings, *, fs: FileSystem | None = None, clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._fs = fs or LocalFileSystem()
        self._clock = clock or SystemClock()
        self._store = LogStore(settings.data_dir, fs=self._fs, clock=self._clock)
        self._housekeeper: asyncio.Task[None] | None = None
        self._round: asyncio.Future[None] | None = None
        self.address = ("", 0)
        self.failed = asyncio.Event()

    async def open(self) -> None:
        """Recovers the logs, takes the address, loads the coordinators, then serves.

        Raises Locked (the directory or the address is in use), NewerDataDirectory, CannotListen, Corrupt, and
        OSError when the disk fails. A broker that could not be opened is closed.
        """
        self._store.open()
        try:
            await self._open()
        except BaseException:
            self._store.close()
            raise

    async def _open(self) -> None:
        host, _, port = self._settings.listen.rpartition(":")
        host = host.strip("[]")
        self.broker = Broker(
            self._settings, self._store, fs=self._fs, clock=self._clock, host=host, port=int(port)
        )
        self.broker.on_failure = lambda _: self.failed.set()
        self._make_topics(self._settings.topics)
        self.broker.groups = Groups(self.broker)
        self.broker.transactions = Transactions(self.broker)
        self.server = Server(self.broker, registrations())
        self.broker.port = await self._bind(host, int(port))
        self.address = host, self.broker.port
        await self.broker.groups.load()
        await self.broker.transactions.load()
        await self.server.serve()
        self._housekeeper = asyncio.create_task(self._keep_house())

    async def _bind(self, host: str, port: int) -> int:
        try:
            return await self.server.bind(host, port)
        except OSError as error:
            text = f"cannot listen on {self._settings.listen}: {error.strerror or error}"
            if error.errno == errno.EADDRINUSE:
                raise Locked(f"{text}; another process has that address") from error
            raise CannotListen(text) from error

    def _make_topics(self, topics: Mapping[str, TopicSettings]) -> None:
        for name, settings in topics.items():
            config, there = topic_config(settings), self._store.topic(name)
            if there is None:
                self._store.create(name, settings.partitions, config)
                continue
            if settings.partitions > len(there.partitions):
                self._store.add_partitions(name, settings.partitions)
            if config != there.config:
                self._store.alter(name, config)

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING)
            self._round = asyncio.ensure_future(self.broker.in_thread(self._store.housekeeping))
            try:
                await asyncio.shield(self._round)
            except OSError as error:
                _log.error("housekeeping failed", path=self._settings.data_dir, error=str(error))

    async def close(self) -> None:
        """Answers what is due, then leaves logs that need no recovery."""
        self.broker.waiting.close()
        await self.broker.groups.close()
        await self.server.stop()
        await self.broker.transactions.close()
        if self._housekeeper is not None:
            self._housekeeper.cancel()
        if self._round is not None:
            await asyncio.wait([self._round])
        await self.broker.flusher.close()
        self._store.close()
