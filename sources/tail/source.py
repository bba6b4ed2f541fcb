"""The `tail` source: follows files by identity, whatever their names do, and makes one EventBatch of each chunk."""

from collections.abc import Mapping, Sequence

from tailrace.component import Assigned, Context, Problem, Revoked
from tailrace.event import EventBatch, Partition, Record
from tailrace.sources.tail.settings import TailSettings


class TailSource:
    """Each file is a partition; a position is a byte offset in the file (of what a gzip'd one decompresses to)."""

    Settings = TailSettings

    def __init__(self, settings: TailSettings, context: Context) -> None:
        self._settings = settings
        self._context = context

    def open(self, records: Sequence[Mapping[Partition, Record]]) -> None:
        raise NotImplementedError

    def read(self, timeout: float) -> EventBatch | Assigned | Revoked | None:
        raise NotImplementedError

    def seek(self, partition: Partition, record: Record | None) -> None:
        raise NotImplementedError

    def committed(self, positions: Mapping[Partition, int], stamp: str) -> None:
        raise NotImplementedError

    def lag(self) -> int | None:
        raise NotImplementedError

    def problems(self) -> Sequence[Problem]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
