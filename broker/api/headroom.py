"""Room on the disk: produce is refused before the disk is full, so that the coordinators can still write."""

import structlog

from tailrace.clock import Clock
from tailrace.fs import FileSystem
from tailrace.units import show_size

_log = structlog.get_logger("tailrace.broker")
_STALE = 0.25
"""Seconds after which the system is asked again."""
_TELL_EVERY = 60.0
"""Seconds between two log lines about a full disk."""


class Headroom:
    """Knows the free bytes of a directory's filesystem without asking for them at every append."""

    def __init__(self, fs: FileSystem, clock: Clock, path: str, min_free: int) -> None:
        self._fs, self._clock, self._path, self._min_free = fs, clock, path, min_free
        self._left = 0
        self._asked = self._told = float("-inf")

    def admits(self, size: int) -> bool:
        """Whether `size` bytes may be written; they count as written from now on."""
        now = self._clock.monotonic()
        if now - self._asked > _STALE or self._left < size:
            if now - self._asked <= _STALE / 10:
                return False
            self._left = self._fs.free_bytes(self._path) - self._min_free
            self._asked = now
        if self._left < size:
            return False
        self._left -= size
        return True

    def refusal(self) -> str:
        """Why admits() said no, for who wrote; the log hears of it once a minute."""
        free = self._fs.free_bytes(self._path)
        reason = (
            f"{self._path}: the disk is full: {show_size(free)} free, `min_free: {show_size(self._min_free)}`"
        )
        if (now := self._clock.monotonic()) - self._told >= _TELL_EVERY:
            self._told = now
            _log.error("no room for rows", path=self._path, free=free, min_free=self._min_free)
        return reason
