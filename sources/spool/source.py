"""The `spool` source: reads finished files out of a directory, and puts each away once it is committed.

A file is read once, by identity and position; one that changes meanwhile, is broken, or has the name of one that was
read before goes to `failed`, with the reason in a log line, and the source goes on.
"""

import heapq
import os
from collections.abc import Mapping, Sequence
from itertools import count

import structlog

from tailrace.component import Assigned, Context, Problem, Revoked
from tailrace.errors import ConfigError, Corrupt, Finished, Mistake
from tailrace.event import EventBatch, Partition, Record
from tailrace.sources.chunks import ChunkReader
from tailrace.sources.progress import Progress
from tailrace.sources.rows import HeaderRules
from tailrace.sources.spool.disposal import Disposal, NameTakenError
from tailrace.sources.spool.intake import Intake, nearest_device
from tailrace.sources.spool.listing import Key, compile_names, look
from tailrace.sources.spool.reading import Nothing, Reading
from tailrace.sources.spool.settings import SpoolSettings
from tailrace.sources.spool.spooled import Spooled, Stage, from_record

LET_GO_EVERY = 3600.0
"""Seconds between two reports of partitions that are done with: each makes the sinks commit."""
UNSETTLED_ONCE = 5.0
"""Seconds that `--once` waits for files that are still being written, when all others are read."""
_AGE = {"oldest": 1, "youngest": -1, "name": 0}


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
        suffix = settings.suffix if settings.when_done == "rename" else ""
        self._intake = Intake(
            self._directory,
            compile_names(settings.include, settings.exclude, suffix),
            recursive=settings.recursive,
            besides=(self._done, self._failed),
            settle=settings.settle,
            clock=context.clock,
            once=context.once,
        )
        wanted = (settings.file_header, settings.basename_header, settings.offset_header)
        rules = HeaderRules(settings.headers, *wanted)
        self._reading = Reading(context.name, self._directory, ChunkReader(settings.max_line), rules)
        self._disposal = Disposal(context.fs)
        self._files: dict[Key, Spooled] = {}
        self._by_partition: dict[Partition, Spooled] = {}
        self._waiting: list[tuple[int, str, int, Spooled]] = []
        self._count = count()
        self._assigning: list[Spooled] = []
        self._gone: list[Partition] = []
        self._let_go_at = context.clock.monotonic()
        self._looked_at: float | None = None
        self._quiet_since: float | None = None
        self._lasting: list[Problem] = []
        """Files that failed."""
        self._passing: list[Problem] = []
        """What the last look could not do."""
        self._lag = 0

    def open(self, records: Sequence[Mapping[Partition, Record]]) -> None:
        least: dict[Partition, Spooled] = {}
        for of_one_sink in records:
            for partition, record in of_one_sink.items():
                spooled = from_record(self._context.name, partition, record)
                known = least.get(partition)
                if spooled is not None and (known is None or record.position < known.progress.position):
                    least[partition] = spooled
        for spooled in least.values():
            self._intake.expect(spooled)
        self._check_filesystems()

    def _check_filesystems(self) -> None:
        for target in [self._failed, *([self._done] if self._settings.when_done == "move" else [])]:
            if os.path.isdir(self._directory) and nearest_device(target) != nearest_device(self._directory):
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
        is_busy, batch = self._next_batch()
        if not is_busy:
            if self._context.once and self._has_read_all(now):
                raise Finished("every file that was there is read")
            self._context.clock.sleep(min(timeout, self._settings.rescan))
        return batch

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
        self._ask_or_end(spooled)

    def committed(self, positions: Mapping[Partition, int], stamp: str) -> None:
        for partition, position in positions.items():
            spooled = self._by_partition.get(partition)
            if spooled is not None:
                spooled.committed = position
                if spooled.stage is not Stage.WAITING:
                    self._put_away(spooled)

    def lag(self) -> int | None:
        return self._lag

    def problems(self) -> Sequence[Problem]:
        return [*self._lasting, *self._passing]

    def close(self) -> None:
        for spooled in self._files.values():
            spooled.close()

    # Looking and reading.

    def _look(self, now: float) -> None:
        self._looked_at = now
        self._passing = []
        for spooled in list(self._files.values()):
            if spooled.sought:
                self._ask_or_end(spooled)
        try:
            new = self._intake.look(self._files.keys())
        except OSError as error:
            reason = f"cannot be listed: {os.strerror(error.errno or 0)}"
            self._passing.append(Problem(self._directory, reason, failed=self._context.once))
            return
        for spooled in new:
            self._take_up(spooled)
        waiting = [f for f in self._files.values() if f.stage is Stage.WAITING]
        self._lag = sum(max(0, f.listed.size - f.progress.position) for f in waiting)

    def _take_up(self, spooled: Spooled) -> None:
        self._files[spooled.listed.key] = spooled
        target = self._target(spooled)
        is_new = spooled.progress.position == 0 and spooled.stage is Stage.WAITING
        if is_new and target is not None and os.path.lexists(target):
            other = look(os.path.dirname(target), os.path.basename(target))
            if other is None or other.key != spooled.listed.key:
                spooled.fail(f"a file of this name was read before: {target}")
                self._put_away(spooled)
                return
        self._by_partition[spooled.partition] = spooled
        self._assigning.append(spooled)

    def _ask_or_end(self, spooled: Spooled) -> None:
        if spooled.stage is not Stage.WAITING:
            self._put_away(spooled)
        elif not spooled.queued:
            spooled.queued = True
            age = _AGE[self._settings.order] * spooled.listed.mtime_ns
            heapq.heappush(self._waiting, (age, spooled.listed.name, next(self._count), spooled))

    def _next_batch(self) -> tuple[bool, EventBatch | None]:
        """(whether there is more to do at once, the batch)"""
        while self._waiting:
            spooled = self._waiting[0][-1]
            answer: EventBatch | Nothing = Nothing.ENDED
            if spooled.stage is Stage.WAITING:
                answer = self._reading.read(spooled, self._context.clock.now_ms())
            if answer is Nothing.MORE:
                return True, None
            if spooled.stage is not Stage.WAITING or not isinstance(answer, EventBatch):
                heapq.heappop(self._waiting)
                spooled.queued = False
            if answer is Nothing.UNREADABLE:
                self._passing.append(Problem(self._path(spooled), spooled.reason))
            elif answer is Nothing.GONE:
                self._forget(spooled)
            elif spooled.stage is not Stage.WAITING:
                self._put_away(spooled)
            if isinstance(answer, EventBatch):
                self._lag = max(0, self._lag - (answer.span.end - answer.span.start))
                self._quiet_since = None
                return True, answer
        return False, None

    def _has_read_all(self, now: float) -> bool:
        if self._assigning or any(f.stage is Stage.WAITING and not f.sought for f in self._files.values()):
            return False
        if not self._intake.unsettled:
            return True
        if self._quiet_since is None:
            self._quiet_since = now
        if now - self._quiet_since < UNSETTLED_ONCE + self._settings.settle:
            return False
        for listed, _ in self._intake.unsettled.values():
            reason = "is still being written: left for the next run"
            self._lasting.append(Problem(os.path.join(self._directory, listed.name), reason))
        return True

    # Putting away.

    def _path(self, spooled: Spooled) -> str:
        return os.path.join(self._directory, spooled.listed.name)

    def _target(self, spooled: Spooled) -> str | None:
        """What it will be called when it is done with; None when it will be deleted."""
        match self._settings.when_done:
            case "rename":
                return self._path(spooled) + self._settings.suffix
            case "move":
                return os.path.join(self._done, spooled.listed.name)
            case "delete":
                return None

    def _put_away(self, spooled: Spooled) -> None:
        """Once everything that was read of it is committed; what cannot be done now is tried at the next look."""
        if spooled.committed < spooled.progress.position:
            return
        now = look(self._directory, spooled.listed.name)
        if now is None or now.key != spooled.listed.key:
            self._forget(spooled)
            return
        if spooled.stage is Stage.READ and now != spooled.listed:
            spooled.fail("it was changed after it had been read")
        try:
            if spooled.stage is Stage.READ:
                self._finish(spooled)
            if spooled.stage is Stage.FAILED:
                self._set_aside(spooled)
        except OSError as error:
            self._passing.append(Problem(self._path(spooled), f"cannot be put away: {error}"))
            return
        self._forget(spooled)

    def _finish(self, spooled: Spooled) -> None:
        target = self._target(spooled)
        if target is None:
            self._disposal.delete(self._path(spooled))
            return
        try:
            self._disposal.move(self._path(spooled), target)
        except NameTakenError:
            spooled.fail(f"a file of this name was read before: {target}")

    def _set_aside(self, spooled: Spooled) -> None:
        path = self._path(spooled)
        there = self._disposal.move_aside(path, os.path.join(self._failed, spooled.listed.name))
        self._log.error("file failed", path=path, reason=spooled.reason, moved_to=there)
        self._lasting.append(Problem(path, f"{spooled.reason}; moved to {there}", failed=True))

    def _forget(self, spooled: Spooled) -> None:
        spooled.close()
        self._files.pop(spooled.listed.key, None)
        if self._by_partition.pop(spooled.partition, None) is not None:
            self._gone.append(spooled.partition)
