"""Kafka's two sparse indexes of a segment: offset -> file position (.index) and time -> offset (.timeindex).

Entries live in one buffer in the file's own format; a look-up is a binary search. What is lost of them is
made again from the log, so they are written when a segment is rolled or closed, never on the append path.
"""

import struct
from bisect import bisect_right

import numpy as np

_OFFSET = struct.Struct(">ii")
_TIME = struct.Struct(">qi")


class OffsetIndex:
    """Entries (last offset of a batch minus the base, the batch's position), both rising."""

    __slots__ = ("base", "data")

    def __init__(self, base: int, data: bytes | bytearray | None = None) -> None:
        """ValueError when `data` is no whole number of entries, or they do not rise."""
        self.base = base
        self.data: bytes | bytearray = bytearray() if data is None else data
        if len(self.data) % _OFFSET.size:
            raise ValueError("size is no multiple of 8")
        entries = np.frombuffer(self.data, ">i4").reshape(-1, 2).astype(np.int64)
        if len(entries) and not (entries[0].min() >= 0 and np.diff(entries, axis=0).min(initial=1) > 0):
            raise ValueError("entries do not rise")

    def __len__(self) -> int:
        return len(self.data) // _OFFSET.size

    def entry(self, n: int) -> tuple[int, int]:
        """(last offset, position) of entry n."""
        relative, position = _OFFSET.unpack_from(self.data, n * _OFFSET.size)
        return self.base + relative, position

    def append(self, last_offset: int, position: int) -> None:
        assert isinstance(self.data, bytearray)
        self.data += _OFFSET.pack(last_offset - self.base, position)

    def at_or_before(self, offset: int) -> int:
        """Position of a batch that ends at or before `offset`, or 0: a scan for `offset` starts there."""
        n = bisect_right(range(len(self)), offset, key=lambda i: self.entry(i)[0])
        return self.entry(n - 1)[1] if n else 0

    def boundary(self, position: int) -> int:
        """The largest known start of a batch at or below `position`, or 0."""
        n = bisect_right(range(len(self)), position, key=lambda i: self.entry(i)[1])
        return self.entry(n - 1)[1] if n else 0


class TimeIndex:
    """Entries (largest timestamp so far in ms, last offset of the batch that has it minus the base), rising."""

    __slots__ = ("base", "data")

    def __init__(self, base: int, data: bytes | bytearray | None = None) -> None:
        """ValueError when `data` is no whole number of entries, or they do not rise."""
        self.base = base
        self.data: bytes | bytearray = bytearray() if data is None else data
        if len(self.data) % _TIME.size:
            raise ValueError("size is no multiple of 12")
        entries = np.frombuffer(self.data, [("time", ">i8"), ("offset", ">i4")])
        times, offsets = entries["time"].astype(np.int64), entries["offset"].astype(np.int64)
        if (times[1:] <= times[:-1]).any() or (offsets[1:] < offsets[:-1]).any() or offsets[:1].sum() < 0:
            raise ValueError("entries do not rise")

    def __len__(self) -> int:
        return len(self.data) // _TIME.size

    def entry(self, n: int) -> tuple[int, int]:
        """(timestamp, offset) of entry n."""
        timestamp, relative = _TIME.unpack_from(self.data, n * _TIME.size)
        return timestamp, self.base + relative

    def last(self) -> tuple[int, int]:
        """(largest timestamp, its offset); (-1, base) when empty."""
        return self.entry(len(self) - 1) if self.data else (-1, self.base)

    def offer(self, timestamp: int, offset: int) -> None:
        """Adds an entry if `timestamp` is past the last one's; Kafka keeps the times strictly rising."""
        assert isinstance(self.data, bytearray)
        if timestamp > self.last()[0]:
            self.data += _TIME.pack(timestamp, offset - self.base)

    def before(self, timestamp: int) -> int:
        """An offset before which no record is as late as `timestamp`: a scan starts there."""
        n = bisect_right(range(len(self)), timestamp - 1, key=lambda i: self.entry(i)[0])
        return self.entry(n - 1)[1] if n else self.base
