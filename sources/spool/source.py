"""The `spool` source: reads finished files out of a directory, and puts each away once it is committed."""

from collections.abc import Mapping, Sequence

from tailrace.component import Assigned, Context, Problem, Revoked
from tailrace.event import EventBatch, Partition, Record
from tailrace.sources.spool.settings import SpoolSettings


class SpoolSource:
    """Each file is a partition; a position is a byte offset in the file (gzip'd: decompressed)."""

    Settings = SpoolSettings

    def __init__(self, settings: SpoolSettings, context: Context) -> None:
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
