"""Drops every row, and counts it: for measuring everything before the sink."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from tailrace.component import Context, Membership, Problem, Scope, SinkSettings, Totals
from tailrace.event import EventBatch, Partition, Record


class NullSettings(SinkSettings):
    """Drops rows. At-least-once, as far as dropping goes: a crash drops some of them twice."""

    type: Literal["null"]

    def weakness(self) -> str | None:
        return "it keeps nothing, so rows dropped right before a crash are read and dropped again"


class NullSink:
    """Counts at write, and forgets; keeps no origins, so the runner does."""

    Settings = NullSettings
    stamp = ""

    def __init__(self, settings: NullSettings, context: Context) -> None:
        self.totals = Totals()
        self._waiting: dict[Partition, tuple[int, int, int]] = {}

    def open(self) -> None:
        pass

    def acquire(
        self, partitions: Collection[Partition] | Scope, membership: Membership | None = None
    ) -> Mapping[Partition, Record]:
        return {}

    def write(self, batch: EventBatch) -> None:
        _, rows, size = self._waiting.get(batch.partition, (0, 0, 0))
        self._waiting[batch.partition] = (batch.span.end, rows + batch.num_rows, size + batch.nbytes)

    def due(self) -> bool:
        return bool(self._waiting)

    def commit(self) -> Mapping[Partition, int]:
        committed = {partition: end for partition, (end, _, _) in self._waiting.items()}
        for _, rows, size in self._waiting.values():
            self.totals.rows += rows
            self.totals.bytes += size
        self._waiting = {}
        return committed

    def abort(self) -> None:
        self._waiting = {}

    def revoke(self, partitions: Collection[Partition], lost: bool) -> None:
        for partition in partitions:
            self._waiting.pop(partition, None)

    def problems(self) -> Sequence[Problem]:
        return ()

    def close(self) -> None:
        self._waiting = {}
