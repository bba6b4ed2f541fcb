"""One connection's answers, in the order of its requests, as buffers and stretches of files.

A place is reserved when a request is taken up and filled when its answer is there; nothing overtakes.
Stretches of LARGE bytes and more go from file to socket without passing through this process
(sendfile).
"""

import errno
import os
from asyncio import AbstractEventLoop, WriteTransport
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

import structlog

from tailrace.broker.server.memory import Memory
from tailrace.broker.wire.pieces import Piece, piece_length

_log = structlog.get_logger("tailrace.broker")
LARGE = 128 << 10
_JOIN = 64 << 10
"""Buffers are joined into one write up to about this size."""
_TURN = 4 << 20
"""Bytes after which other connections have their turn."""


class FileStretch(Protocol):
    """What is sent by sendfile: broker.log's FileRange."""

    @property
    def fd(self) -> int: ...
    @property
    def position(self) -> int: ...
    @property
    def length(self) -> int: ...


class Place:
    """Where one answer goes: its pieces, the first one last; None until it is there."""

    __slots__ = ("memory", "pieces")

    def __init__(self) -> None:
        self.pieces: list[Piece] | None = None
        self.memory = 0


class Outbox:
    """All methods belong to the event loop. `moved` is called after bytes went out or a place came free."""

    def __init__(
        self, loop: AbstractEventLoop, transport: WriteTransport, memory: Memory, moved: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._memory = memory
        self._moved = moved
        self._places: deque[Place] = deque()
        self._stretch: FileStretch | None = None
        self._sent = 0
        self._handed = 0
        self._paused = False
        self._watching = False
        self._scheduled = False
        self._closed = False
        self._socket = -1
        # The transport then pauses us whenever it holds a byte back: when it does not, sendfile may write.
        transport.set_write_buffer_limits(high=0)

    def __len__(self) -> int:
        """Answers that are due or on their way."""
        return len(self._places) + (self._stretch is not None)

    @property
    def queued(self) -> int:
        """Bytes of memory in answers that wait."""
        return self._handed + sum(place.memory for place in self._places)

    @property
    def stuck(self) -> bool:
        """Whether there is something to send that the peer does not take."""
        return self._paused or self._watching

    def reserve(self) -> Place:
        place = Place()
        self._places.append(place)
        return place

    def fill(self, place: Place, pieces: list[Piece]) -> None:
        """The answer is there. Call pump() afterwards."""
        if self._closed:
            return
        place.memory = sum(piece_length(p) for p in pieces if isinstance(p, bytes | bytearray | memoryview))
        place.pieces = pieces[::-1]
        self._memory.take(place.memory)

    def pause(self) -> None:
        """The transport holds bytes back."""
        self._paused = True

    def resume(self) -> None:
        """The transport has sent everything that it was given."""
        self._paused = False
        self._memory.release(self._handed)
        self._handed = 0
        self.pump()

    def pump(self) -> None:
        """Sends what can be sent now."""
        self._scheduled = False
        turn, moved = _TURN, False
        while turn > 0 and not (self.stuck or self._closed):
            before = len(self)
            try:
                sent = self._send_next() if self._stretch is None else self._send_stretch(self._stretch)
            except OSError as error:
                _log.error("cannot send an answer", error=str(error))
                self._transport.abort()
                self.close()
                break
            if not sent and len(self) == before:
                break
            moved = True
            turn -= sent
        if turn <= 0 and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.pump)
        if moved:
            self._moved()

    def _send_next(self) -> int:
        """Writes buffers up to the next large stretch; answers how many bytes."""
        parts: list[bytes | bytearray | memoryview] = []
        size = freed = 0
        while self._places and size < _JOIN and self._stretch is None:
            place = self._places[0]
            if place.pieces is None:
                break
            if not place.pieces:
                self._places.popleft()
                freed += place.memory
                continue
            piece = place.pieces.pop()
            if isinstance(piece, bytes | bytearray | memoryview):
                parts.append(piece)
                size += len(piece)
                continue
            stretch = cast(FileStretch, piece)
            if stretch.length >= LARGE:
                self._stretch, self._sent = stretch, 0
            else:
                parts.append(_read(stretch.fd, stretch.position, stretch.length))
                size += stretch.length
        if parts:
            self._transport.write(parts[0] if len(parts) == 1 else b"".join(parts))
        if self._paused:
            self._handed += freed
        else:
            self._memory.release(freed)
        return size

    def _send_stretch(self, stretch: FileStretch) -> int:
        """Sends a part of a large stretch; answers how many bytes."""
        position, left = stretch.position + self._sent, stretch.length - self._sent
        out = self._raw_socket()
        if out < 0:
            sent = min(left, LARGE)
            self._transport.write(_read(stretch.fd, position, sent))
        else:
            try:
                sent = os.sendfile(out, stretch.fd, position, min(left, _TURN))
            except BlockingIOError:
                self._watching = True
                self._loop.add_writer(out, self._writable)
                return 0
            except ConnectionError:
                self._transport.abort()
                self.close()
                return 0
            if sent == 0:
                raise OSError(errno.EIO, f"a segment file ends {left} bytes before it should")
        self._sent += sent
        if self._sent == stretch.length:
            self._stretch = None
        return sent

    def _writable(self) -> None:
        self._loop.remove_writer(self._socket)
        self._watching = False
        self.pump()

    def _raw_socket(self) -> int:
        """A descriptor of the connection that is ours to watch; -1 when bytes must go through the
        transport (TLS).
        """
        if self._socket < 0 and self._transport.get_extra_info("sslcontext") is None:
            self._socket = os.dup(self._transport.get_extra_info("socket").fileno())
        return self._socket

    def close(self) -> None:
        """Forgets everything that was not sent."""
        if self._closed:
            return
        self._closed = True
        self._memory.release(self.queued)
        self._handed = 0
        self._places.clear()
        self._stretch = None
        if self._socket >= 0:
            if self._watching:
                self._loop.remove_writer(self._socket)
            os.close(self._socket)
        self._watching = False


def _read(fd: int, position: int, length: int) -> bytes:
    data = os.pread(fd, length, position)
    if len(data) != length:
        raise OSError(errno.EIO, f"a segment file has {len(data)} of {length} bytes at {position}")
    return data
