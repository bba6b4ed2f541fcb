"""Kafka's .txnindex: the aborted transactions whose abort marker lies in a segment."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from tailrace.errors import Corrupt

_ENTRY = struct.Struct(">hqqqq")


@dataclass(frozen=True, slots=True)
class Aborted:
    """One aborted transaction: its first data offset, its marker's offset, and the last stable offset after it."""

    producer_id: int
    first_offset: int
    last_offset: int
    last_stable: int


def encode(entries: Iterable[Aborted]) -> bytes:
    return b"".join(
        _ENTRY.pack(0, e.producer_id, e.first_offset, e.last_offset, e.last_stable) for e in entries
    )


def decode(data: bytes, path: str) -> list[Aborted]:
    """Corrupt when it is no list of entries whose markers rise; `path` is for the text."""
    if len(data) % _ENTRY.size:
        raise Corrupt(f"{path}: {len(data)} bytes are no whole number of entries of {_ENTRY.size}")
    found: list[Aborted] = []
    previous = -1
    for version, producer_id, first, last, stable in _ENTRY.iter_unpack(data):
        if version != 0 or not 0 <= first <= last or last <= previous:
            raise Corrupt(f"{path}: entry {len(found)} cannot be right")
        found.append(Aborted(producer_id, first, last, stable))
        previous = last
    return found
