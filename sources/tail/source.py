"""The `tail` source: follows files by identity, whatever their names do; one chunk is one EventBatch.

How it works: a look (patterns.py) finds files, recognition.py tells which content each of them holds, turns.py
whose turn it is, and reading.py reads it, once it is sure that the content is the one whose position is known.
"""

import os
from collections.abc import Mapping, Sequence

import structlog

from tailrace.component import Assigned, Context, Problem, Revoked
from tailrace.errors import Corrupt, Finished
from tailrace.event import EventBatch, Partition, Record
from tailrace.sources.chunks import ChunkReader
from tailrace.sources.rows import HeaderRules
from tailrace.sources.tail.catalog import Catalog
from tailrace.sources.tail.descriptors import Descriptors
from tailrace.sources.tail.ending import Ending
from tailrace.sources.tail.patterns import Finder, Found, PatternGroup, absolute
from tailrace.sources.tail.reading import STILL_ONCE, STILL_ROTATED, Nothing, Reading
from tailrace.sources.tail.recognition import Recognition
from tailrace.sources.tail.settings import FileGroup, TailSettings
from tailrace.sources.tail.survey import Survey
from tailrace.sources.tail.suspects import Patience
from tailrace.sources.tail.tracked import Moment, Tracked, first_start_marker, from_record
from tailrace.sources.tail.turns import Turns
from tailrace.sources.tail.wake import Wake

LET_GO_EVERY = 3600.0
"""Seconds between two reports of partitions that are gone: each makes the sinks commit."""
_RESCAN_ONCE = 1.0
_COMPARED = 8 * 2**20
"""Bytes of possible copies compared in one go."""
_BATCHES = 16
"""Batches between two such comparisons, while there is something to read."""
_TRIES = 1000
"""Files looked into for a row in one call of read()."""


class TailSource:
    """Each file is a partition; a position is a byte offset in the file (gzip'd: decompressed)."""

    Settings = TailSettings

    def __init__(self, settings: TailSettings, context: Context) -> None:
        self._context = context
        self._log = structlog.get_logger().bind(source=context.name)
        groups = [FileGroup(files=settings.files), *settings.groups] if settings.files else settings.groups
        finder = Finder(_pattern_groups(groups, settings.exclude))
        reader = ChunkReader(settings.max_line)
        self._catalog = Catalog()
        self._descriptors = Descriptors(settings.open_files)
        together = STILL_ONCE if context.once else STILL_ROTATED
        self._recognition = Recognition(
            self._catalog, self._descriptors, reader, Patience(unfinished=STILL_ROTATED, together=together)
        )
        self._ending = Ending() if context.once else None
        goals = None if self._ending is None else self._ending.goals
        rules = _header_rules(settings, groups)
        self._reading = Reading(context.name, reader, self._descriptors, finder, rules, goals)
        self._turns = Turns(settings.turn, oldest_first=settings.oldest_first)
        self._wake = Wake(settings.watch)
        rescan = min(settings.rescan, _RESCAN_ONCE) if context.once else settings.rescan
        self._survey = Survey(finder, self._wake, rescan, context.clock)
        self._is_first_look = True
        self._starts_at_end = settings.start == "end"
        self._assigning: list[Tracked] = []
        self._first: set[Tracked] = set()
        """Those of the very first start at the end that are not sought yet: nothing is read before they are."""
        self._skips: dict[Tracked, None] = {}
        """Spans without rows that are sent before anything is read."""
        self._batches = 0
        self._let_go_at = context.clock.monotonic()
        self._found = Found()
        self._problems: tuple[Problem, ...] = ()
        self._told: set[Problem] = set()
        self._lag = 0

    def open(self, records: Sequence[Mapping[Partition, Record]]) -> None:
        least: dict[Partition, Tracked] = {}
        for of_one_sink in records:
            for partition, record in of_one_sink.items():
                tracked = from_record(self._context.name, partition, record)
                known = least.get(partition)
                if tracked is not None and (known is None or record.position < known.progress.position):
                    least[partition] = tracked
        for tracked in least.values():
            self._catalog.add(tracked)
        self._starts_at_end &= all(tracked.at_first_start for tracked in least.values())

    def read(self, timeout: float) -> EventBatch | Assigned | Revoked | None:
        for tracked in self._survey.changed(self._catalog):
            self._turns.ask(tracked)
        if self._survey.is_due() or self._recognition.must_look:
            self._look()
        if self._assigning:
            new, self._assigning = self._assigning, []
            return Assigned(tuple(tracked.partition for tracked in new))
        if self._first:
            self._survey.wait(timeout)
            return None
        gone = self._gone()
        if gone:
            return Revoked(tuple(tracked.partition for tracked in gone))
        if self._skips:
            tracked = next(iter(self._skips))
            del self._skips[tracked]
            return self._reading.skip(tracked)
        is_busy, batch = self._next_batch()
        if batch is None and not is_busy and not self._recognition.must_look:
            if self._ending is not None and self._has_ended(self._ending):
                raise Finished("every file was read to the end it had")
            self._survey.wait(timeout)
        return batch

    def seek(self, partition: Partition, record: Record | None) -> None:
        tracked = self._catalog.get(partition)
        if tracked is None:
            return
        stored = None
        if record is not None:
            stored = from_record(self._context.name, partition, record)
            if stored is None:
                raise Corrupt(
                    f"{partition.key} ({partition.name}): a sink stored a position without our state"
                )
        before = tracked.progress
        tracked.restart(stored.progress if stored is not None else None)
        if not tracked.attached and tracked.progress.position < before.position:
            self._log.warning(
                "rows have to be read again, but their file is gone",
                path=tracked.path,
                start=tracked.progress.position,
                end=before.position,
            )
            self._survey.must_look = True  # for a copy
        tracked.sought = True
        self._first.discard(tracked)
        if tracked.must_skip:
            self._skips[tracked] = None
        else:
            self._skips.pop(tracked, None)
        self._turns.ask(tracked)

    def committed(self, positions: Mapping[Partition, int], stamp: str) -> None:
        for partition, position in positions.items():
            tracked = self._catalog.get(partition)
            if tracked is not None:
                tracked.committed = position

    def lag(self) -> int | None:
        return self._lag

    def problems(self) -> Sequence[Problem]:
        return self._problems

    def close(self) -> None:
        self._wake.close()
        self._recognition.close()
        self._descriptors.close_all()

    def _now(self) -> Moment:
        return Moment(self._context.clock.now_ms(), self._context.clock.monotonic())

    def _look(self) -> None:
        """Finds out what became of every file, and what is new."""
        now = self._now()
        self._found = self._survey.look()
        begins_at_end = self._is_first_look and self._starts_at_end
        self._recognition.look(self._found, now, is_first=self._is_first_look, begins_at_end=begins_at_end)
        if self._is_first_look and self._ending is not None:
            self._recognition.take_no_others()
        self._is_first_look = False
        self._take_recognised()
        if begins_at_end:
            marker = first_start_marker(self._context.name, now.ms)
            self._catalog.add(marker)
            self._first = {*self._assigning, marker}
            self._assigning.append(marker)
        attached = self._catalog.attached()
        self._lag = sum(t.unread for t in attached if not t.skip)
        self._tell_problems()

    def _take_recognised(self) -> None:
        new, active = self._recognition.take()
        for tracked in new:
            tracked.assigned = True
            self._assigning.append(tracked)
        for tracked in active:
            self._turns.ask(tracked)
        if self._ending is not None:
            for tracked in (*new, *active):
                self._ending.add(tracked)

    def _gone(self) -> list[Tracked]:
        """Partitions that are committed to their end and have no file any more. A copy brings them back."""
        now = self._context.clock.monotonic()
        if self._ending is not None or now - self._let_go_at < LET_GO_EVERY:
            return []
        self._let_go_at = now
        gone = [t for t in self._catalog.lost() if t.assigned and t.committed >= t.progress.position]
        for tracked in gone:
            tracked.assigned = tracked.sought = False
        return gone

    def _next_batch(self) -> tuple[bool, EventBatch | None]:
        """(whether there is more to do at once, the batch)"""
        now = self._now()
        self._batches += 1
        if self._batches % _BATCHES == 0 or not len(self._turns):
            if self._recognition.compare(_COMPARED, now):
                self._take_recognised()
                if not len(self._turns):
                    return True, None
        for _ in range(_TRIES):
            tracked = self._turns.current()
            if tracked is None:
                return False, None
            if not tracked.attached or not tracked.sought or tracked.skip:
                self._turns.done()
                continue
            answer = self._reading.read(tracked, now)
            if isinstance(answer, EventBatch):
                size = answer.span.end - answer.span.start
                self._lag = max(0, self._lag - size)
                if tracked.at_end:
                    self._turns.done()
                else:
                    self._turns.used(size)
                if self._ending is not None:
                    self._ending.go_on()
                return True, answer
            if answer is Nothing.MORE:
                self._turns.pass_on()
                return True, None
            self._turns.done()
            if answer is Nothing.CHANGED:
                self._recognition.lose(tracked, was_cut=True)
            elif answer is Nothing.GONE:
                self._survey.hasten()
            elif answer is Nothing.FAILED:
                self._tell_problems()
        return True, None

    def _has_ended(self, ending: Ending) -> bool:
        attached = self._catalog.attached()
        if len(self._turns) or self._assigning or any(t.assigned and not t.sought for t in attached):
            return False
        if not ending.has_come(attached, self._recognition.undecided(), self._now()):
            return False
        self._tell_problems()
        return True

    def _tell_problems(self) -> None:
        problems = [*self._found.problems, *self._recognition.problems]
        for tracked in self._catalog.attached():
            if tracked.failed_reason:
                is_literal = tracked.path in self._found.literals
                problems.append(Problem(tracked.path, tracked.failed_reason, failed=is_literal))
        if self._ending is not None:
            problems += self._ending.left
        self._problems = tuple(problems)
        for problem in set(problems) - self._told:
            self._log.warning("problem", place=problem.place, reason=problem.text)
        self._told = set(problems)


def _header_rules(settings: TailSettings, groups: Sequence[FileGroup]) -> list[HeaderRules]:
    wanted = (settings.file_header, settings.basename_header, settings.offset_header)
    return [HeaderRules(settings.headers | group.headers, *wanted) for group in groups]


def _pattern_groups(groups: Sequence[FileGroup], exclude: Sequence[str]) -> list[PatternGroup]:
    here = os.getcwd()
    return [
        PatternGroup(
            [absolute(pattern, here) for pattern in group.files],
            [
                absolute(pattern, here) if "/" in pattern else pattern
                for pattern in (*exclude, *group.exclude)
            ],
        )
        for group in groups
    ]
