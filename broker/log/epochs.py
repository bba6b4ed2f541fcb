"""Kafka's leader-epoch-checkpoint: from which offset on each leader epoch wrote.

An entry is durable before the first batch of its epoch is written, so a follower or client that compares
epochs after an unclean stop always sees that something may have been cut.
"""

import os
from bisect import bisect_right
from itertools import pairwise

from tailrace.errors import Corrupt
from tailrace.fs import FileSystem, write_atomically

FILE = "leader-epoch-checkpoint"


class LeaderEpochs:
    """Entries (epoch, start offset), both rising."""

    def __init__(self, directory: str, fs: FileSystem) -> None:
        """Reads the checkpoint if there is one; Corrupt when it cannot be right."""
        self._path = os.path.join(directory, FILE)
        self._fs = fs
        self.entries: list[tuple[int, int]] = []
        self.found = os.path.exists(self._path)
        if self.found:
            with open(self._path, encoding="ascii", errors="replace") as file:
                self.entries = _decode(file.read(), self._path)

    @property
    def latest(self) -> int:
        """The newest epoch; -1 when none was ever written."""
        return self.entries[-1][0] if self.entries else -1

    def assign(self, epoch: int, start: int) -> None:
        """Notes that `epoch` writes from `start` on; durable when this returns. Older or equal epochs change nothing.

        Epochs that began at or after `start` are dropped: their batches were cut.
        """
        if epoch <= self.latest:
            return
        kept = [entry for entry in self.entries if entry[1] < start]
        self._store([*kept, (epoch, start)])

    def cut_start(self, start: int) -> None:
        """Drops epochs that ended at or before `start`; the one that holds `start` now begins there."""
        n = bisect_right(self.entries, start, key=lambda entry: entry[1])
        if n == 0:
            return
        kept = [(self.entries[n - 1][0], start), *self.entries[n:]]
        if kept != self.entries:
            self._store(kept)

    def end_of(self, epoch: int, leo: int) -> tuple[int, int]:
        """(the largest epoch <= `epoch`, the offset where it ended); (-1, -1) when there is none (KIP-279)."""
        if not self.entries or epoch < 0 or epoch > self.latest:
            return (-1, -1)
        n = bisect_right(self.entries, epoch, key=lambda entry: entry[0])
        if n == 0:
            return (epoch, self.entries[0][1])
        end = self.entries[n][1] if n < len(self.entries) else leo
        return (self.entries[n - 1][0], end)

    def _store(self, entries: list[tuple[int, int]]) -> None:
        text = f"0\n{len(entries)}\n" + "".join(f"{epoch} {start}\n" for epoch, start in entries)
        write_atomically(self._fs, self._path, text.encode("ascii"))
        self.entries = entries


def _decode(text: str, path: str) -> list[tuple[int, int]]:
    lines = text.splitlines()
    try:
        if int(lines[0]) != 0 or int(lines[1]) != len(lines) - 2:
            raise ValueError
        entries = [(int(epoch), int(start)) for epoch, start in (line.split() for line in lines[2:])]
    except (ValueError, IndexError):
        raise Corrupt(f"{path} is damaged; remove it, and epochs start anew from the log's batches") from None
    for before, after in pairwise(entries):
        if not (before[0] < after[0] and before[1] <= after[1]):
            raise Corrupt(f"{path}: epochs or offsets do not rise at {after}")
    return entries
