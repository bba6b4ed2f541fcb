"""Reads one followed file: the next chunk as a batch, or why there is none."""

import enum
import os
from collections.abc import Mapping, Sequence

from tailrace.event import EventBatch, Span, no_rows
from tailrace.sources.chunks import Chunk, ChunkReader, ContentChangedError
from tailrace.sources.comparison import Recollection, Verdict
from tailrace.sources.content import BadContentError, Content
from tailrace.sources.rows import HeaderRules, file_rows
from tailrace.sources.tail.descriptors import Descriptors, MovedError
from tailrace.sources.tail.patterns import Finder
from tailrace.sources.tail.tracked import Moment, Tracked

STILL_ROTATED = 60.0
"""Seconds without a change after which the half-written last line of a rotated file is sent."""
STILL_ONCE = 5.0
"""The same for any file under `--once`."""
_DECOMPRESSED = 8 * 2**20
"""Bytes of an archive that are decompressed in one go to get to the position."""


class Nothing(enum.Enum):
    """Why there is no batch."""

    IDLE = "everything that makes a row was read"
    MORE = "not yet: ask again"
    CHANGED = "the file holds something else now"
    GONE = "the name leads to no file, or to another one"
    FAILED = "it cannot be read; tracked.failed_reason says why"


class Reading:
    """Reads for one source."""

    def __init__(
        self,
        source: str,
        reader: ChunkReader,
        descriptors: Descriptors,
        finder: Finder,
        rules: Sequence[HeaderRules],
        goals: Mapping[Tracked, int] | None,
    ) -> None:
        """rules: of each group. goals: under `--once`, the sizes up to which files are read."""
        self._source = source
        self._reader = reader
        self._descriptors = descriptors
        self._finder = finder
        self._rules = rules
        self._goals = goals

    def skip(self, tracked: Tracked) -> EventBatch:
        """The span before the place where reading begins: without rows, so that the position is stored."""
        tracked.must_skip = False
        began = tracked.progress.began
        return EventBatch(no_rows(), tracked.partition, Span(0, began), tracked.state(self._source))

    def read(self, tracked: Tracked, now: Moment) -> EventBatch | Nothing:
        if self._has_reached_goal(tracked):
            return Nothing.IDLE
        tracked.failed_reason = ""
        try:
            content = self._descriptors.content(tracked)
            if tracked.is_gzip and not tracked.is_recalled and (verdict := self._recall(tracked, content)):
                return verdict
            chunk = self._reader.read(content, tracked.progress, is_last=self._is_last(tracked, content, now))
        except ContentChangedError:
            return Nothing.CHANGED
        except (FileNotFoundError, MovedError):
            return Nothing.GONE
        except BadContentError as error:
            tracked.at_end, tracked.rest = True, 0
            tracked.failed_reason = f"{error}; what follows byte {tracked.progress.position} is not read"
            return Nothing.FAILED
        except OSError as error:
            tracked.failed_reason = f"cannot be read: {error}"
            return Nothing.FAILED
        tracked.at_end, tracked.is_finished = chunk.at_end, chunk.is_finished
        tracked.rest = chunk.rest if chunk.at_end else 0
        return self._batch(tracked, chunk, now) if chunk.lines.consumed else Nothing.IDLE

    def _has_reached_goal(self, tracked: Tracked) -> bool:
        goal = None if self._goals is None else self._goals.get(tracked)
        return goal is not None and tracked.progress.position >= goal

    def _recall(self, tracked: Tracked, content: Content) -> Nothing | None:
        """Decompresses an archive up to the position, and looks whether it is what was read before."""
        if tracked.recollection is None:
            tracked.recollection = Recollection(tracked.progress)
        verdict = tracked.recollection.step(content, _DECOMPRESSED)
        if verdict is Verdict.MORE:
            return Nothing.MORE
        tracked.recollection = None
        tracked.is_recalled = verdict is Verdict.AGREES
        return None if tracked.is_recalled else Nothing.CHANGED

    def _is_last(self, tracked: Tracked, content: Content, now: Moment) -> bool:
        """Whether what stands at the end without a line end is sent: the file's life must have ended."""
        is_once = self._goals is not None
        if not (is_once or tracked.is_rotated):
            return False
        status = os.fstat(content.fd)
        tracked.look_at((status.st_size, status.st_mtime_ns, status.st_ctime_ns), now)
        wait = STILL_ONCE if is_once else STILL_ROTATED
        return now.monotonic - tracked.still_since >= wait

    def _batch(self, tracked: Tracked, chunk: Chunk, now: Moment) -> EventBatch:
        if tracked.group < 0:
            tracked.group = self._finder.group_of(tracked.born)
        rows = file_rows(chunk.lines, chunk.base, now.ms, tracked.born, self._rules[tracked.group])
        tracked.progress = chunk.progress
        tracked.at_first_start = False
        span = Span(chunk.base, chunk.progress.position)
        return EventBatch(rows, tracked.partition, span, tracked.state(self._source))
