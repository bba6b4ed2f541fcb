"""A parquet sink over a temporary directory, with a clock that is turned by hand."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tailrace import failpoint
from tailrace.clock import ManualClock
from tailrace.component import Context
from tailrace.event import HEADERS, TIMESTAMP, EventBatch, Partition, Span, make_rows
from tailrace.sinks.parquet.settings import ParquetSettings
from tailrace.sinks.parquet.sink import ParquetSink

TOPIC = Partition("topic", "abc", 0, "weblogs")
FILES = [Partition("file", f"{n:032x}", 0, f"/var/log/{n}.log") for n in range(3)]
NOON = 1_763_899_200_000
HOUR = 3_600_000


def batch(partition, start, bodies, *, end=None, times=None, headers=None, state=b"s", gap=False):
    """Rows at start, start + 1, ...; the span ends behind the last unless `end` says otherwise."""
    n = len(bodies)
    rows = make_rows(
        pa.array(bodies, pa.binary()),
        np.arange(start, start + n),
        pa.array(times if times is not None else [NOON] * n, TIMESTAMP),
        headers=None if headers is None else pa.array(headers, HEADERS),
    )
    return EventBatch(rows, partition, Span(start, start + n if end is None else end), state, gap=gap)


@dataclass
class World:
    root: Path
    clock: ManualClock = field(default_factory=ManualClock)
    made: list[ParquetSink] = field(default_factory=list)

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    def settings(self, **changes) -> ParquetSettings:
        path = f"{self.lake}/%{{topic}}/hour=%H"
        return ParquetSettings(**{"type": "parquet", "channel": "c", "path": path, "min_free": 0, **changes})

    def context(self, name="lake", instance="i" * 32) -> Context:
        state = self.root / "state" / "land"
        state.mkdir(parents=True, exist_ok=True)
        return Context("p", "land", name, instance, state, clock=self.clock)

    def sink(self, *, opened=True, name="lake", instance="i" * 32, **changes) -> ParquetSink:
        self.made.append(ParquetSink(self.settings(**changes), self.context(name, instance)))
        if opened:
            self.made[-1].open()
        return self.made[-1]

    def files(self, below="") -> list[Path]:
        return sorted(
            path
            for path in (self.lake / below).rglob("*.parquet")
            if "_staging" not in path.parts and ("_dead" not in path.parts or below)
        )

    def staged(self) -> list[Path]:
        return [path for path in (self.lake / "_staging").rglob("*") if path.is_file()]

    def rows(self, below="", column="body") -> list:
        return sorted(
            value
            for path in self.files(below)
            for value in pq.read_table(path, partitioning=None)[column].to_pylist()
        )


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    failpoint.arm("")
    for sink in world.made:
        sink.close()
