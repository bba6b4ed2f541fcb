"""Generates numbered rows: for trying a pipeline out, for load, and as the smallest source there is to read.

The body of each row is its position as decimal text, so what is lost or doubled downstream can be counted.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from tailrace.component import Assigned, Context, Problem, SourceSettings
from tailrace.errors import ConfigError, Finished, Mistake
from tailrace.event import EventBatch, Partition, Record, Span, make_rows


class SequenceSettings(SourceSettings):
    """Generates rows 0, 1, 2, ... and goes on after a restart where the sinks' records end."""

    type: Literal["sequence"]
    events: int | None = Field(
        default=None, ge=0, description="Rows in all, over all runs; endless by default."
    )
    batch_size: int = Field(default=1000, ge=1, le=1_000_000, description="Rows a batch.")
    rate: float | None = Field(
        default=None, gt=0, description="Rows a second at the most; unbounded by default."
    )


class SequenceSource:
    """One partition of kind "stream"; a row's position is its number."""

    Settings = SequenceSettings

    def __init__(self, settings: SequenceSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._state = json.dumps({"sequence": context.name}).encode()
        self._partition = Partition("stream", uuid.uuid4().hex, name=context.name)
        self._batch_size = settings.batch_size
        if settings.rate is not None:
            self._batch_size = min(settings.batch_size, max(1, int(settings.rate)))
        self._announced = False
        self._next: int | None = None
        """Position of the next row; None until sought."""
        self._pace_began = (0.0, 0)
        """Moment (monotonic s) and position that the rate is reckoned from."""

    def open(self, records: Sequence[Mapping[Partition, Record]]) -> None:
        if self._context.once and self._settings.events is None:
            where = Mistake(
                self._context.pipeline,
                1,
                1,
                f"source {self._context.name}: an endless sequence cannot run with --once; set `events`",
            )
            raise ConfigError([where])
        for of_one_sink in records:
            for partition, record in of_one_sink.items():
                if partition.kind == "stream" and record.state == self._state:
                    self._partition = partition

    def read(self, timeout: float) -> EventBatch | Assigned | None:
        if not self._announced:
            self._announced = True
            return Assigned((self._partition,))
        if self._next is None:
            return None
        end = self._next + self._batch_size
        if self._settings.events is not None:
            end = min(end, self._settings.events)
            if self._next >= end:
                raise Finished(f"all {self._settings.events} rows were read")
        if not self._wait_for_turn(end, timeout):
            return None
        numbers = np.arange(self._next, end, dtype=np.int64)
        body = pa.array(numbers).cast(pa.string()).cast(pa.binary())
        rows = make_rows(body, numbers, self._context.clock.now_ms())
        batch = EventBatch(rows, self._partition, Span(self._next, end), self._state)
        self._next = end
        return batch

    def _wait_for_turn(self, end: int, timeout: float) -> bool:
        """True when the rate allows the rows before `end`; waits `timeout` seconds for it at the most."""
        if self._settings.rate is None:
            return True
        began, position = self._pace_began
        wait = began + (end - position) / self._settings.rate - self._context.clock.monotonic()
        if wait > 0:
            self._context.clock.sleep(min(wait, timeout))
        return wait <= timeout

    def seek(self, partition: Partition, record: Record | None) -> None:
        assert partition == self._partition
        self._next = 0 if record is None else record.position
        self._pace_began = (self._context.clock.monotonic(), self._next)

    def committed(self, positions: Mapping[Partition, int], stamp: str) -> None:
        pass

    def lag(self) -> int | None:
        if self._settings.events is None or self._next is None:
            return None
        return max(0, self._settings.events - self._next)

    def problems(self) -> Sequence[Problem]:
        return ()

    def close(self) -> None:
        pass
