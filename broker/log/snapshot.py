"""Kafka's .snapshot files: the producers' state at an offset, so that a start need not read the whole log.

A damaged snapshot is never believed (CRC-32C) and never missed: the state is then read from the log.
"""

import os
import struct
from collections.abc import Mapping
from contextlib import suppress

import crc32c

from tailrace.broker.log.names import SNAPSHOT, file_path, parse_file
from tailrace.broker.log.producers import MAX_SEQUENCE, Producer, Written
from tailrace.errors import Corrupt
from tailrace.fs import FileSystem

_HEAD = struct.Struct(">hIi")
_ENTRY = struct.Struct(">qhiqiqiq")
_CRC_FROM = 6


def encode(states: Mapping[int, Producer]) -> bytes:
    """Version 1: each producer's last batch (of its five), epochs and open transaction."""
    parts = []
    for pid, s in states.items():
        last = s.written[-1] if s.written else Written(-1, -1, -1, -1, -1)
        parts.append(
            _ENTRY.pack(
                pid,
                s.epoch,
                last.last_sequence,
                last.last_offset,
                last.last_offset - last.first_offset,
                s.timestamp,
                s.coordinator_epoch,
                s.first_open,
            )
        )
    body = struct.pack(">i", len(parts)) + b"".join(parts)
    return struct.pack(">hI", 1, crc32c.crc32c(body)) + body


def decode(data: bytes, path: str) -> dict[int, Producer]:
    """The states; Corrupt when the version, the CRC or the length is wrong. `path` is for the text."""
    if len(data) < _HEAD.size:
        raise Corrupt(f"{path}: {len(data)} bytes are too few for a producer snapshot")
    version, crc, count = _HEAD.unpack_from(data)
    if version != 1:
        raise Corrupt(f"{path}: producer snapshot of unknown version {version}")
    if crc != crc32c.crc32c(memoryview(data)[_CRC_FROM:]) or len(data) != _HEAD.size + count * _ENTRY.size:
        raise Corrupt(f"{path}: producer snapshot is damaged")
    states = {}
    for entry in _ENTRY.iter_unpack(memoryview(data)[_HEAD.size :]):
        pid, epoch, last_sequence, last_offset, delta, timestamp, coordinator_epoch, first_open = entry
        state = Producer(epoch, coordinator_epoch, first_open, timestamp)
        if last_sequence >= 0:
            first = (last_sequence - delta) & MAX_SEQUENCE
            state.written.append(Written(first, last_sequence, last_offset - delta, last_offset, timestamp))
        states[pid] = state
    return states


def write(fs: FileSystem, directory: str, offset: int, data: bytes) -> str:
    """Writes the snapshot of the state before `offset`; not yet durable. A torn one is seen by its CRC."""
    path = file_path(directory, offset, SNAPSHOT)
    fd = fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        fs.write(fd, data)
    finally:
        os.close(fd)
    return path


def load_latest(directory: str, upto: int) -> tuple[int, dict[int, Producer]] | None:
    """(offset, states) of the latest sound snapshot at or before `upto`."""
    for offset in sorted(offsets(directory), reverse=True):
        if offset <= upto:
            path = file_path(directory, offset, SNAPSHOT)
            with suppress(Corrupt, FileNotFoundError), open(path, "rb") as file:
                return offset, decode(file.read(), path)
    return None


def offsets(directory: str) -> list[int]:
    """Offsets of all snapshots in a partition's directory."""
    parsed = (parse_file(name) for name in os.listdir(directory))
    return [p[0] for p in parsed if p is not None and p[1] == SNAPSHOT and not p[2]]
