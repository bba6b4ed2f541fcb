"""Kafka's offset checkpoint files in a data directory: one offset for each topic-partition."""

import os
from collections.abc import Mapping

from tailrace.fs import FileSystem, write_atomically

RECOVERY_POINT = "recovery-point-offset-checkpoint"
LOG_START = "log-start-offset-checkpoint"
CLEANER = "cleaner-offset-checkpoint"
HIGH_WATERMARK = "replication-offset-checkpoint"

Offsets = Mapping[tuple[str, int], int]


def write(fs: FileSystem, data_dir: str, name: str, offsets: Offsets) -> None:
    """Replaces the checkpoint, durably."""
    lines = [f"{topic} {partition} {offset}\n" for (topic, partition), offset in sorted(offsets.items())]
    write_atomically(fs, os.path.join(data_dir, name), f"0\n{len(lines)}\n{''.join(lines)}".encode("ascii"))


def read(data_dir: str, name: str) -> dict[tuple[str, int], int]:
    """The offsets; nothing when the file is missing or damaged, which only means more to scan or to keep."""
    try:
        with open(os.path.join(data_dir, name), encoding="ascii") as file:
            lines = file.read().splitlines()
        if int(lines[0]) != 0 or int(lines[1]) != len(lines) - 2:
            return {}
        rows = [line.rsplit(" ", 2) for line in lines[2:]]
        return {(topic, int(partition)): int(offset) for topic, partition, offset in rows}
    except (FileNotFoundError, ValueError, IndexError):
        return {}
