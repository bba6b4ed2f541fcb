"""From received bytes to whole frames, with as little copying and as little memory as there can be.

Everything is received into one scratch buffer that all connections share, and small frames are handled
in it. Only the piece of a frame that is not whole yet is copied, into a buffer of exactly the frame's
size, and the rest of it is received there. Large buffers are leased from the server's memory, and
reused for the next large frame.
"""

import mmap
import struct
from collections.abc import Callable

from tailrace.broker.server.memory import Memory
from tailrace.errors import Corrupt

SCRATCH = 32 << 10
MAX_OTHER = 8 << 20
"""Bytes of the largest request that is not Produce."""
_LEASED_FROM = 16 << 10
"""Smaller buffers are not leased: the number of connections bounds them."""
_MAPPED_FROM = 128 << 10
"""From here on memory comes straight from the system, and goes back to it."""
_PREFIX = struct.Struct(">ih")
_PRODUCE = 0
_LEAST = 8
"""Bytes of the shortest request: key, version and correlation id."""


class Inbox:
    """One connection's. `granted` is called when memory has come for a frame that `blocked` the
    connection.
    """

    def __init__(
        self, scratch: memoryview, memory: Memory, max_request: int, granted: Callable[[], None]
    ) -> None:
        self._scratch = scratch
        self._memory = memory
        self._max_request = max_request
        self._granted = granted
        self._fresh = scratch[:0]
        self._frame: memoryview | None = None
        self._filled = 0
        self._leased = 0
        self._spare: memoryview | None = None
        self._held = b""
        self._wanted = 0

    @property
    def blocked(self) -> bool:
        """Nothing may be received: there is no memory yet for the frame that has begun."""
        return self._wanted > 0

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and is not whole."""
        return self._frame is not None or self._wanted > 0 or len(self._fresh) > 0

    def room(self) -> memoryview:
        """Where the next bytes go; never empty. Every frame must have been taken out, or park() called."""
        return self._scratch if self._frame is None else self._frame[self._filled :]

    def received(self, count: int) -> None:
        """`count` bytes are in what room() gave."""
        if self._frame is None:
            self._fresh = self._scratch[:count]
        else:
            self._filled += count

    def next_frame(self) -> memoryview | None:
        """The next whole frame without its size, writable; None when there is none (yet).

        Valid until the next call of anything here. Corrupt when the size in front is absurd.
        """
        if self._frame is not None:
            return self._next_in_frame(self._frame)
        fresh = self._fresh
        if len(fresh) < _PREFIX.size:
            if len(fresh) > 0:
                self._begin(_PREFIX.size)
            return None
        total = self._total(fresh)
        if len(fresh) < total:
            self._begin(total)
            return None
        self._fresh = fresh[total:]
        return fresh[4:total]

    def _next_in_frame(self, frame: memoryview) -> memoryview | None:
        if self._filled < len(frame):
            return None
        self._frame = None
        if len(frame) == _PREFIX.size:
            self._fresh = frame
            self._begin(self._total(frame))
            return None
        self._retire(frame)
        return frame[4:]

    def _total(self, data: memoryview) -> int:
        size, key = _PREFIX.unpack_from(data)
        largest = self._max_request if key == _PRODUCE else min(MAX_OTHER, self._max_request)
        if not _LEAST <= size <= largest:
            raise Corrupt(f"a request of {size} bytes (API key {key}); the largest is {largest}{_hint(data)}")
        return 4 + int(size)

    def _begin(self, total: int) -> None:
        """A frame of `total` bytes begins with what is fresh."""
        if self._spare is not None and total >= _LEASED_FROM:
            spare, self._spare = self._spare, None
            self._memory.reuse(self)
            if len(spare) >= total:
                self._fill(spare[:total])
                return
            self._give_back()
        if total < _LEASED_FROM:
            self._fill(memoryview(bytearray(total)))
        elif self._memory.lease(self, total, self._have_memory):
            self._leased = total
            self._fill(_allocate(total))
        else:
            self._held = bytes(self._fresh)
            self._fresh = self._scratch[:0]
            self._wanted = total

    def _fill(self, frame: memoryview) -> None:
        self._filled = len(self._fresh)
        frame[: self._filled] = self._fresh
        self._frame = frame
        self._fresh = self._scratch[:0]

    def _have_memory(self) -> None:
        total, self._wanted = self._wanted, 0
        self._leased = total
        self._fresh = memoryview(self._held)
        self._held = b""
        self._fill(_allocate(total))
        self._granted()

    def _retire(self, frame: memoryview) -> None:
        if not self._leased:
            return
        if self._memory.keep_idle(self, self._leased, self._drop_spare):
            assert isinstance(frame.obj, bytearray | mmap.mmap)
            self._spare = memoryview(frame.obj)
        else:
            self._give_back()

    def _drop_spare(self) -> None:
        self._spare = None
        self._leased = 0

    def _give_back(self) -> None:
        leased, self._leased = self._leased, 0
        self._memory.release(leased)

    def park(self) -> None:
        """Keeps what is fresh for later, because the scratch is needed by others."""
        if len(self._fresh) and self._fresh.obj is self._scratch.obj:
            self._fresh = memoryview(bytearray(self._fresh))

    def close(self) -> None:
        """Gives all memory back."""
        idle = self._spare is not None
        self._memory.forget(self)
        if not idle:
            self._give_back()
        self._spare = self._frame = None
        self._fresh, self._held, self._wanted = self._scratch[:0], b"", 0


def _allocate(size: int) -> memoryview:
    if size < _MAPPED_FROM:
        return memoryview(bytearray(size))
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def _hint(data: memoryview) -> str:
    start = bytes(data[:3])
    if start in (b"GET", b"POS", b"HEA", b"PUT"):
        return "; this looks like HTTP, and this port speaks the Kafka protocol"
    if start[:2] == b"\x16\x03":
        return "; this looks like TLS, and this port speaks plain Kafka"
    return ""
