"""The listening side: accepts connections within their limit, sweeps those that hold memory and do not
move, stops.

What a broker holds for its clients is bounded by Limits, whatever their number and whatever they do.
"""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.registry import Registration
from tailrace.broker.server.connection import Connection
from tailrace.broker.server.inbox import SCRATCH
from tailrace.broker.server.memory import Memory

_log = structlog.get_logger("tailrace.broker")
_BETWEEN_WARNINGS = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may hold, and for how long; seconds and bytes."""

    memory: int = 48 << 20
    """Requests on their way in and answers on their way out, of all connections."""
    idle: float = 600.0
    """Without a byte, after which a connection is closed (Kafka's connections.max.idle.ms)."""
    stuck: float = 60.0
    """That a half-sent request, or an answer nobody takes, may stand still."""
    stuck_when_scarce: float = 5.0
    """The same while others wait for the memory."""
    sweep: float = 1.0
    grace: float = 2.0
    """For the last answers when the server stops."""


class Server:
    """All methods belong to the event loop."""

    def __init__(
        self, broker: Broker, table: Mapping[int, Registration], limits: Limits | None = None
    ) -> None:
        self._broker = broker
        self._table = table
        self._limits = limits or Limits()
        self._memory = Memory(self._limits.memory)
        self._scratch = memoryview(bytearray(SCRATCH))
        self._connections: set[Connection] = set()
        self._count = 0
        self._refused_at = float("-inf")
        self._sweeper: asyncio.Task[None] | None = None
        self._listener: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def bind(self, host: str, port: int) -> int:
        """Takes the address, answers the port; nobody is accepted yet. OSError when it cannot be had."""
        loop = asyncio.get_running_loop()
        if port == 0:
            # A name may have two addresses, and each would take a port of its own.
            host = str((await loop.getaddrinfo(host or "0.0.0.0", 0, type=socket.SOCK_STREAM))[0][4][0])  # noqa: S104
        self._listener = await loop.create_server(
            self._accept, host or None, port, backlog=1024, start_serving=False
        )
        taken: int = self._listener.sockets[0].getsockname()[1]
        return taken

    async def serve(self) -> None:
        """Begins to accept connections."""
        assert self._listener is not None, "bind() comes first"
        await self._listener.start_serving()
        self._sweeper = asyncio.create_task(self._sweep())

    def _accept(self) -> asyncio.BaseProtocol:
        if len(self._connections) >= self._broker.settings.max_connections:
            now = asyncio.get_running_loop().time()
            if now - self._refused_at > _BETWEEN_WARNINGS:
                self._refused_at = now
                _log.warning("too many connections", limit=self._broker.settings.max_connections)
            return _Refused()
        self._count += 1
        return Connection(
            self._count, self._broker, self._table, self._scratch, self._memory, self._connections
        )

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._limits.sweep)
            now = loop.time()
            limits = self._limits
            patience = limits.stuck_when_scarce if self._memory.scarce else limits.stuck
            for connection in list(self._connections):
                still = now - connection.moved_at
                if still > limits.idle or (connection.stuck and still > patience):
                    connection.abort()

    async def stop(self) -> None:
        """Accepts and reads nothing more; sends the answers that are due, within a grace."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.stop()
        deadline = asyncio.get_running_loop().time() + self._limits.grace
        while self._connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)


class _Refused(asyncio.Protocol):
    """A connection too many: closed at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()
