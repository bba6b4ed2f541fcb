"""One client's connection: takes requests up in their order, and hands their answers to the outbox in the
same.

Bounded in every direction: requests in flight, bytes of unsent answers, memory for what has not
arrived. A request that is malformed or not known ends the connection, after the answers before it.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from types import CoroutineType
from typing import Any, cast

import structlog

from tailrace.broker.api.api_versions import unsupported
from tailrace.broker.api.broker import Broker
from tailrace.broker.api.registry import Disconnect, Registration, Session
from tailrace.broker.server.inbox import Inbox
from tailrace.broker.server.memory import Memory
from tailrace.broker.server.outbox import Outbox, Place
from tailrace.broker.wire.messages import (
    API_VERSIONS,
    Request,
    UnsupportedVersion,
    decode_request,
    encode_response,
)
from tailrace.errors import Corrupt

_log = structlog.get_logger("tailrace.broker")
MAX_IN_FLIGHT = 64
MAX_UNSENT = 256 << 10
"""Bytes of answers in memory that wait for a slow client; then no more of its requests are taken up."""


class Connection(asyncio.BufferedProtocol):
    """All methods are called by asyncio, on the event loop."""

    def __init__(
        self,
        number: int,
        broker: Broker,
        table: Mapping[int, Registration],
        scratch: memoryview,
        memory: Memory,
        connections: "set[Connection]",
    ) -> None:
        self._number = number
        self._broker = broker
        self._table = table
        self._memory = memory
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._inbox = Inbox(scratch, memory, broker.settings.max_request, self._go_on)
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading = True
        self._ending = False
        self.moved_at = self._loop.time()
        """When a byte came or went last."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername") or ("unknown",)
        ours = transport.get_extra_info("sockname") or ("unknown",)
        self._session = Session(f"/{peer[0]}", str(ours[0]), self._number)
        self._outbox = Outbox(self._loop, self._transport, self._memory, self._sent)
        self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._ending = True
        self._connections.discard(self)
        for task in self._tasks:
            task.cancel()
        self._outbox.close()
        self._inbox.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._inbox.room()

    def buffer_updated(self, nbytes: int) -> None:
        self.moved_at = self._loop.time()
        self._inbox.received(nbytes)
        self._go_on()

    def eof_received(self) -> bool:
        """The client has no more requests; it still gets the answers that are due."""
        self._end()
        return True

    def pause_writing(self) -> None:
        self._outbox.pause()

    def resume_writing(self) -> None:
        self.moved_at = self._loop.time()
        self._outbox.resume()

    def _sent(self) -> None:
        self.moved_at = self._loop.time()
        if self._ending:
            self._close_when_done()
        elif not self._reading:
            self._loop.call_soon(self._go_on)

    @property
    def _full(self) -> bool:
        return len(self._outbox) >= MAX_IN_FLIGHT or self._outbox.queued > MAX_UNSENT

    def _go_on(self) -> None:
        """Takes up what has arrived, as far as there is room for answers."""
        try:
            while not (self._ending or self._full):
                frame = self._inbox.next_frame()
                if frame is None:
                    break
                self._take_up(frame)
        except Exception as error:  # noqa: BLE001 - one request must not take the broker down
            self._failed(error)
        self._inbox.park()
        self._outbox.pump()
        self._listen(not (self._ending or self._full or self._inbox.blocked))

    def _listen(self, reading: bool) -> None:
        if reading == self._reading or self._transport.is_closing():
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _take_up(self, frame: memoryview) -> None:
        try:
            request = decode_request(frame)
            registration = self._table.get(request.api_key)
            if registration is None or not registration.lowest <= request.api_version <= registration.highest:
                raise UnsupportedVersion(request.api_key, request.api_version, request.correlation_id)
        except UnsupportedVersion as error:
            if error.key != API_VERSIONS:
                raise
            place = self._outbox.reserve()
            self._outbox.fill(place, encode_response(API_VERSIONS, 0, error.correlation_id, unsupported()))
            return
        place = self._outbox.reserve()
        try:
            answer = registration.handler(request, self._session, self._broker)
            if isinstance(answer, CoroutineType):
                task = self._loop.create_task(self._wait_for(place, request, answer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self._answer(place, request, answer)
        except BaseException:
            self._outbox.fill(place, [])
            raise

    async def _wait_for(self, place: Place, request: Request, answer: Coroutine[Any, Any, Any]) -> None:
        try:
            self._answer(place, request, await answer)
        except Exception as error:  # noqa: BLE001 - one request must not take the broker down
            self._outbox.fill(place, [])
            self._failed(error)
        self._outbox.pump()

    def _answer(self, place: Place, request: Request, body: Any) -> None:
        pieces = []
        if body is not None:
            pieces = encode_response(request.api_key, request.api_version, request.correlation_id, body)
        self._outbox.fill(place, pieces)

    def _failed(self, error: Exception) -> None:
        """Whatever a request ended in, the connection ends with it, after the answers before it."""
        client, software = self._session.client_host, self._session.client_software
        if isinstance(error, Corrupt | UnsupportedVersion | Disconnect):
            _log.warning("connection closed", client=client, software=software, reason=str(error))
        else:
            _log.error("request failed", client=client, software=software, exc_info=error)
        self._end()

    def _end(self) -> None:
        """No more requests; the connection closes when the answers that are due have gone."""
        self._ending = True
        self._listen(False)
        self._close_when_done()

    def _close_when_done(self) -> None:
        if len(self._outbox) == 0 and not self._outbox.stuck:
            self._transport.close()

    @property
    def stuck(self) -> bool:
        """Whether the peer holds memory of ours and neither sends nor takes a byte."""
        return self._outbox.stuck or self._inbox.partial

    def stop(self) -> None:
        """Ends in an orderly way: the server stops."""
        self._end()

    def abort(self) -> None:
        """Ends now."""
        self._transport.abort()
