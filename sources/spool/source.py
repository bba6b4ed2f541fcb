"""The `spool` source: reads finished files out of a directory, and puts each away once it is committed.

A file is read once, by identity and position; one that changes meanwhile, is broken, or has the name of one that was
read before goes to `failed`, with the reason in a log line, and the source goes on.
"""

import heapq
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import count

import structlog

from tailrace.component import Assigned, Context, Problem, Revoked
from tailrace.errors import ConfigError, Corrupt, Finished, Mistake
from tailrace.event import EventBatch, Partition, Record
from tailrace.sources.chunks import ChunkReader
from tailrace.sources.progress import Progress
from tailrace.sources.rows import HeaderRules
from tailrace.sources.spool.disposal import Disposal, NameTakenError
from tailrace.sources.spool.listing import Listed, compile_names, files, look
from tailrace.sources.spool.reading import Nothing, Reading
from tailrace.sources.spool.settings import SpoolSettings
from tailrace.sources.spool.spooled import Spooled, Stage, from_record, new_spooled

LET_GO_EVERY = 3600.0
"""Seconds between two reports of partitions that are done with: each makes the sinks commit."""
UNSETTLED_ONCE = 5.0
"""Seconds that `--once` waits for files that are still being written, when all others are read."""


class SpoolSource:
    """Each file is a partition; a position is a byte offset in the file (gzip'd: decompressed)."""

    Settings = SpoolSettings

    def __init__(self, settings: SpoolSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._log = structlog.get_logger().bind(source=context.name)
        self._directory = os.path.abspath(settings.directory)
        self._done = os.path.abspath(settings.done_directory or os.path.join(self._directory, "done"))
        self._failed = os.path.abspath(settings.failed_directory or os.path.join(self._directory, "failed"))
        self._names = compile_names(
            settings.include, settings.exclude, settings.suffix if settings.when_done == "rename" else ""
        )
        rules = HeaderRules(
            settings.headers, settings.file_header, settings.basename_header, settings.offset_header
        )
        self._reading = Reading(context.name, self._directory, ChunkReader(settings.max_line), rules)
        self._disposal = Disposal(context.fs)
        self._records: dict[int, list[Spooled]] = defaultdict(list)
        """Files that the sinks have records of, by inode, until they are found."""
        self._files: dict[tuple[int, int], Spooled] = {}
        self._by_partition: dict[Partition, Spooled] = {}
        self._waiting: list[tuple[float, str, int, Spooled]] = []
        self._count = count()
        self._assigning: list[Spooled] = []
        self._gone: list[Partition] = []
        self._let_go_at = context.clock.monotonic()
        self._looked_at: float | None = None
        self._unsettled: dict[str, float] = {}
        """Files that are too young, and since when (monotonic s) they have been known to be so."""
        self._only: set[tuple[int, int]] | None = None
        """Under `--once`: the files that were there at the first look."""
        self._lasting: dict[str, Problem] = {}
        self._passing: list[Problem] = []

    def open(self, records: Sequence[Mapping[Partition, Record]]) -> None:
        least: dict[Partition, Spooled] = {}
        for of_one_sink in records:
            for partition, record in of_one_sink.items():
                spooled = from_record(self._context.name, partition, record)
                known = least.get(partition)
                if spooled is not None and (known is None or record.position < known.progress.position):
                    least[partition] = spooled
        for spooled in least.values():
            self._records[spooled.listed.key[1]].append(spooled)
        self._check_filesystems()

    def _check_filesystems(self) -> None:
        targets = [self._failed, *([self._done] if self._settings.when_done == "move" else [])]
        try:
            device = os.stat(self._directory).st_dev
        except OSError:
            return  # it is a problem at every look
        for target in targets:
            place = target
            while not os.path.lexists(place):
                place = os.path.dirname(place)
            if os.stat(place).st_dev != device:
                text = (
                    f"source {self._context.name}: {target} is on another filesystem than {self._directory}"
                )
                raise ConfigError([Mistake(self._context.pipeline, 1, 1, text)])

    def read(self, timeout: float) -> EventBatch | Assigned | Revoked | None:
        now = self._context.clock.monotonic()
        if self._looked_at is None or now - self._looked_at >= self._settings.rescan:
            self._look(now)
        if self._assigning:
            new, self._assigning = self._assigning, []
            return Assigned(tuple(spooled.partition for spooled in new))
        if self._gone and now - self._let_go_at >= LET_GO_EVERY and not self._context.once:
            gone, self._gone, self._let_go_at = self._gone, [], now
            return Revoked(tuple(gone))
        while self._waiting:
            spooled = self._waiting[0][-1]
            if spooled.stage is not Stage.WAITING or not spooled.sought:
                heapq.heappop(self._waiting)
                continue
            answer = self._reading.read(spooled, self._context.clock.now_ms())
            if spooled.stage is not Stage.WAITING:
                self._end(spooled)
            if isinstance(answer, EventBatch):
                return answer
            if answer is Nothing.MORE:
                return None
            if answer is Nothing.UNREADABLE:
                heapq.heappop(self._waiting)
                self._passing.append(Problem(self._path(spooled), spooled.reason))
            elif answer is Nothing.GONE:
                self._forget(spooled)
        if self._context.once and self._has_read_all(now):
            raise Finished("every file that was there is read")
        self._context.clock.sleep(min(timeout, self._settings.rescan))
        return None

    def seek(self, partition: Partition, record: Record | None) -> None:
        spooled = self._by_partition.get(partition)
        if spooled is None:
            return
        progress = Progress()
        if record is not None:
            stored = from_record(self._context.name, partition, record)
            if stored is None:
                raise Corrupt(
                    f"{partition.key} ({partition.name}): a sink stored a position without our state"
                )
            progress, spooled.committed = stored.progress, record.position
        spooled.restart(progress)
        spooled.sought = True
        if spooled.stage is Stage.WAITING:
            self._queue(spooled)
        elif spooled.is_committed:
            self._put_away(spooled)

    def committed(self, positions: Mapping[Partition, int], stamp: str) -> None:
        for partition, position in positions.items():
            spooled = self._by_partition.get(partition)
            if spooled is not None:
                spooled.committed = position
                if spooled.stage is not Stage.WAITING and spooled.is_committed:
                    self._put_away(spooled)

    def lag(self) -> int | None:
        return sum(
            max(0, f.listed.size - f.progress.position) for f in list(self._files.values()) if not f.content
        )

    def problems(self) -> Sequence[Problem]:
        return [*self._lasting.values(), *self._passing]

    def close(self) -> None:
        for spooled in self._files.values():
            spooled.close()

    def _path(self, spooled: Spooled) -> str:
        return os.path.join(self._directory, spooled.listed.name)

    def _queue(self, spooled: Spooled) -> None:
        age = {"oldest": 1, "youngest": -1, "name": 0}[self._settings.order] * spooled.listed.mtime_ns
        heapq.heappush(self._waiting, (age, spooled.listed.name, next(self._count), spooled))

    # Looking.

    def _look(self, now: float) -> None:
        self._looked_at = now
        self._passing = []
        for spooled in list(self._files.values()):
            if spooled.stage is not Stage.WAITING and spooled.is_committed:
                self._put_away(spooled)
            elif spooled.sought and spooled.reason and spooled.stage is Stage.WAITING:
                self._queue(spooled)  # it could not be read; perhaps it can now
        besides = (self._done, self._failed)
        try:
            found = list(
                files(self._directory, self._names, recursive=self._settings.recursive, besides=besides)
            )
        except OSError as error:
            text = f"cannot be listed: {os.strerror(error.errno or 0)}"
            self._passing.append(Problem(self._directory, text, failed=self._context.once))
            return
        if self._context.once and self._only is None:
            self._only = {listed.key for listed in found}
        known = self._files.keys()
        new = [f for f in found if f.key not in known and (self._only is None or f.key in self._only)]
        self._unsettled = {f.name: self._unsettled.get(f.name, now) for f in new if not self._is_settled(f)}
        for listed in new:
            if listed.name not in self._unsettled:
                self._take_up(listed)

    def _is_settled(self, listed: Listed) -> bool:
        age = self._context.clock.now_ms() / 1000 - listed.mtime_ns / 1e9
        return age >= self._settings.settle

    def _take_up(self, listed: Listed) -> None: ...


def _unused(_: Iterable[Listed]) -> None: ...
