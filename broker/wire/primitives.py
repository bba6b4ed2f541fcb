"""Strings, counts and tagged fields in their two spellings, legacy and compact (KIP-482), for the
hand-written messages.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TypeVar

from tailrace.broker.wire.reader import (
    Budget,
    read_compact_length,
    read_legacy_length,
    read_short_length,
    skip_tags,
)
from tailrace.errors import Corrupt

T = TypeVar("T")
ReadLength = Callable[[memoryview, int], tuple[int, int]]


def put_uvarint(value: int) -> bytes:
    """An unsigned varint of at most 32 bits."""
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _put_compact(length: int) -> bytes:
    return put_uvarint(length + 1)


def _put_short(length: int) -> bytes:
    return length.to_bytes(2, "big", signed=True)


def _put_long(length: int) -> bytes:
    return length.to_bytes(4, "big", signed=True)


def _no_tags(view: memoryview, at: int, budget: Budget) -> int:  # noqa: ARG001
    return at


@dataclass(frozen=True, slots=True)
class Primitives:
    """One of the two spellings. `length` is of bytes and of arrays that may be null (-1), `count` of arrays
    that may not.
    """

    length: ReadLength
    string_length: ReadLength
    skip_tags: Callable[[memoryview, int, Budget], int]
    put_length: Callable[[int], bytes]
    put_string_length: Callable[[int], bytes]
    no_tags: bytes
    """What an empty section of tagged fields is written as."""

    def count(self, view: memoryview, at: int, budget: Budget) -> tuple[int, int]:
        count, at = self.length(view, at)
        if count < 0:
            raise Corrupt("an array is null")
        budget.take(count)
        return count, at

    def nullable_string(self, view: memoryview, at: int) -> tuple[str | None, int]:
        length, at = self.string_length(view, at)
        if length < 0:
            return None, at
        return str(view[at : at + length], "utf-8"), at + length

    def string(self, view: memoryview, at: int) -> tuple[str, int]:
        value, at = self.nullable_string(view, at)
        if value is None:
            raise Corrupt("a string is null")
        return value, at

    def put_count(self, count: int) -> bytes:
        return self.put_length(count)

    def put_string(self, value: str) -> bytes:
        data = value.encode()
        return self.put_string_length(len(data)) + data

    def put_nullable_string(self, value: str | None) -> bytes:
        return self.put_string_length(-1) if value is None else self.put_string(value)


_LEGACY = Primitives(read_legacy_length, read_short_length, _no_tags, _put_long, _put_short, b"")
_COMPACT = Primitives(read_compact_length, read_compact_length, skip_tags, _put_compact, _put_compact, b"\0")


def primitives(flexible: bool) -> Primitives:
    return _COMPACT if flexible else _LEGACY


def frame_reader(
    what: str,
) -> Callable[[Callable[[int, memoryview], tuple[T, int]]], Callable[[int, memoryview], T]]:
    """Makes a reader `(version, body) -> (value, end)` into one that answers the value, or raises Corrupt
    and nothing else.
    """

    def wrap(read: Callable[[int, memoryview], tuple[T, int]]) -> Callable[[int, memoryview], T]:
        @wraps(read)
        def checked(version: int, body: memoryview) -> T:
            try:
                value, end = read(version, body)
            except (struct.error, IndexError, ValueError, OverflowError) as error:
                raise Corrupt(f"{what} is cut short or malformed: {error}") from None
            if end != len(body):
                raise Corrupt(f"{what}: {len(body) - end} bytes are left over behind it")
            return value

        return checked

    return wrap
