"""Writes every row as a line of the log: for looking at a pipeline, and the smallest sink to read."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import structlog
from pydantic import Field

from tailrace.component import Context, Membership, Problem, Scope, SinkSettings, Totals
from tailrace.event import EventBatch, Partition, Record
from tailrace.units import Size


class LoggerSettings(SinkSettings):
    """Logs rows. At-least-once: a row that was logged right before a crash is logged again after it."""

    type: Literal["logger"]
    max_body: Size = Field(default=1024, ge=1, description="Bytes of a row's body that are shown.")

    def weakness(self) -> str | None:
        return "a line that is logged cannot be taken back, so a crash right after it repeats it"


class LoggerSink:
    """Holds batches until commit, then logs their rows; keeps no origins, so the runner does."""

    Settings = LoggerSettings
    stamp = ""

    def __init__(self, settings: LoggerSettings, context: Context) -> None:
        self.totals = Totals()
        self._max_body = settings.max_body
        self._log = structlog.get_logger().bind(sink=context.name)
        self._waiting: list[EventBatch] = []

    def open(self) -> None:
        pass

    def acquire(
        self, partitions: Collection[Partition] | Scope, membership: Membership | None = None
    ) -> Mapping[Partition, Record]:
        return {}

    def write(self, batch: EventBatch) -> None:
        self._waiting.append(batch)

    def due(self) -> bool:
        return bool(self._waiting)

    def commit(self) -> Mapping[Partition, int]:
        for batch in self._waiting:
            origin = batch.partition.name or batch.partition.key
            bodies = batch.rows.column("body").to_pylist()
            positions = batch.rows.column("position").to_pylist()
            for position, body in zip(positions, bodies, strict=True):
                shown = (body or b"")[: self._max_body].decode(errors="replace")
                self._log.info("row", origin=origin, position=position, body=shown)
                self.totals.bytes += len(body or b"")
            self.totals.rows += batch.num_rows
        committed = {batch.partition: batch.span.end for batch in self._waiting}
        self._waiting = []
        return committed

    def abort(self) -> None:
        self._waiting = []

    def revoke(self, partitions: Collection[Partition], lost: bool) -> None:
        self._waiting = [batch for batch in self._waiting if batch.partition not in partitions]

    def problems(self) -> Sequence[Problem]:
        return ()

    def close(self) -> None:
        self._waiting = []
