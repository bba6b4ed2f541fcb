"""A bounded queue between threads: fast, and gone with the process; origins pass through unchanged."""

import threading
from collections import deque
from typing import Literal

from pydantic import Field

from tailrace.component import ChannelSettings, Context
from tailrace.event import EventBatch
from tailrace.units import Size


class MemoryChannelSettings(ChannelSettings):
    """Holds batches in memory. A crash loses nothing that can be read again: sources are sought to what sinks have."""

    type: Literal["memory"]
    capacity: Size = Field(default=64 * 2**20, ge=1, description="Bytes of rows that may wait.")
    events: int = Field(default=1_000_000, ge=1, description="Rows that may wait.")


class MemoryChannel:
    """First in, first out. A full one makes put() wait: that is the back-pressure."""

    Settings = MemoryChannelSettings

    def __init__(self, settings: MemoryChannelSettings, context: Context) -> None:
        self._capacity = settings.capacity
        self._most = settings.events
        self._waiting: deque[EventBatch] = deque()
        self._bytes = 0
        self._events = 0
        self._changed = threading.Condition()

    def open(self) -> None:
        pass

    def put(self, batch: EventBatch, timeout: float) -> bool:
        with self._changed:
            if not self._changed.wait_for(lambda: self._has_room(batch), timeout):
                return False
            self._waiting.append(batch)
            self._bytes += batch.nbytes
            self._events += _weight(batch)
            self._changed.notify_all()
            return True

    def take(self, timeout: float) -> EventBatch | None:
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting, timeout):
                return None
            batch = self._waiting.popleft()
            self._bytes -= batch.nbytes
            self._events -= _weight(batch)
            self._changed.notify_all()
            return batch

    def depth(self) -> tuple[int, int]:
        with self._changed:
            return self._events, self._bytes

    def clear(self) -> None:
        with self._changed:
            self._waiting.clear()
            self._bytes = self._events = 0
            self._changed.notify_all()

    def close(self) -> None:
        self.clear()

    def _has_room(self, batch: EventBatch) -> bool:
        """A batch larger than the whole bound is taken when nothing else waits."""
        if not self._waiting:
            return True
        return self._bytes + batch.nbytes <= self._capacity and self._events + _weight(batch) <= self._most


def _weight(batch: EventBatch) -> int:
    """Events as the bound counts them: a span from which everything was filtered takes room too."""
    return max(1, batch.num_rows)
