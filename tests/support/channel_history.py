"""Random histories of a file channel between sources and a sink, and the model that counts every row exactly once.

Source i has the rows `i:0`, `i:1`, ... at positions 0, 1, ...; the sink's store is the model, so it survives what
the channel must survive.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from tailrace.channels.file import FileChannel, FileChannelSettings
from tailrace.clock import ManualClock
from tailrace.component import Context
from tailrace.event import EventBatch, Partition, Record, Span, make_rows
from tailrace.fs import FileSystem

SOURCES = 3
Report = Callable[..., None]


def source_partition(n: int) -> Partition:
    return Partition("file", f"{n:032x}", 0, f"{n}.log")


def state_at(n: int, position: int) -> bytes:
    return b"source %d at %d" % (n, position)


@dataclass
class Model:
    """What was answered for, what was tried, and what the sink has stored."""

    answered: dict[int, int] = field(default_factory=dict)
    tried: dict[int, int] = field(default_factory=dict)
    sink_position: int | None = None
    sink_rows: list[str] = field(default_factory=list)
    stream: str | None = None

    def report(self, what: str, *rest) -> None:
        getattr(self, f"_{what}")(*rest)

    def _opened(self, stream):
        assert self.stream in (None, stream), "the channel came back as another stream"
        self.stream = stream

    def _put(self, n, end):
        self.tried[n] = end

    def _done(self, n, end):
        self.answered[n] = end

    def _commit(self, position, rows):
        self.sink_position = position
        self.sink_rows += rows

    def check(self, channel: FileChannel) -> None:
        """Raises AssertionError naming the broken promise; then what was found counts as answered."""
        assert self.stream in (None, channel.partition.id), "the channel came back as another stream"
        has = channel.committed()
        for n in range(SOURCES):
            record = has.get(source_partition(n))
            position = record.position if record else 0
            least, most = self.answered.get(n, 0), self.tried.get(n, 0)
            assert least <= position <= most, (
                f"source {n}: channel is at {position}, answered {least}, tried {most}"
            )
            if record is not None:
                assert record.state == state_at(n, position), (
                    f"source {n}: state {record.state!r} at {position}"
                )
            self.answered[n] = self.tried[n] = position
        channel.seek(None if self.sink_position is None else Record(self.sink_position))
        rows = list(self.sink_rows)
        while (batch := channel.take(0)) is not None:
            rows += [body.decode() for body in batch.rows.column("body").to_pylist()]
        for n in range(SOURCES):
            mine = [row for row in rows if row.startswith(f"{n}:")]
            wanted = [f"{n}:{k}" for k in range(self.answered[n])]
            wanted = [row for row in wanted if not skipped(row)]
            assert [row.partition("|")[0] for row in mine] == wanted, (
                f"source {n}: rows lost, doubled or out of order"
            )


def skipped(row: str) -> bool:
    """Rows that an interceptor drops: their spans travel without them."""
    return int(row.partition(":")[2]) % 7 == 3


class Driver:
    """Puts, takes, commits and releases at random, and reports each."""

    def __init__(
        self, directory: str, fs: FileSystem, seed: int, report: Report, model_position: int | None
    ) -> None:
        self.random = random.Random(seed)
        self.say = report
        settings = FileChannelSettings(
            type="file", path=f"{directory}/deep/channel", segment=2**16, min_free=0, take=3000,
            compression=self.random.choice(["none", "none", "lz4"]),
        )  # fmt: skip
        context = Context("p", "a", "c1", "0" * 32, Path(directory), clock=ManualClock(), fs=fs)
        self.channel = FileChannel(settings, context)
        self.channel.open()
        self.say("opened", self.channel.partition.id)
        self.channel.seek(None if model_position is None else Record(model_position))
        self.taken: list[str] = []
        self.position = model_position

    def run(self, steps: int) -> None:
        verbs = [self.put, self.put, self.put, self.take, self.take, self.commit]
        for _ in range(steps):
            self.random.choice(verbs)()

    def put(self) -> None:
        n = self.random.randrange(SOURCES)
        record = self.channel.committed().get(source_partition(n))
        start = record.position if record else 0
        end = start + self.random.randint(1, 5)
        padding = "|" + "x" * self.random.choice([0, 100, 5000])
        rows = [(k, f"{n}:{k}") for k in range(start, end)]
        rows = [(k, (row + padding).encode()) for k, row in rows if not skipped(row)]
        batch = EventBatch(
            make_rows(
                pa.array([row for _, row in rows], pa.binary()),
                np.array([k for k, _ in rows], np.int64),
                1_700_000_000_000,
            ),
            source_partition(n),
            Span(start, end),
            state_at(n, end),
        )
        self.say("put", n, end)
        assert self.channel.put(batch, 0)
        self.say("done", n, end)

    def take(self) -> None:
        batch = self.channel.take(0)
        if batch is not None:
            self.taken += [body.decode().partition("|")[0] for body in batch.rows.column("body").to_pylist()]
            self.position = batch.span.end

    def commit(self) -> None:
        if self.position is not None and self.random.random() < 0.5:
            self.say("commit", self.position, self.taken)
            self.taken = []
            self.channel.release(self.position)
