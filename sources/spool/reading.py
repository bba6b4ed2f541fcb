"""Reads one file of the spool directory: the next chunk as a batch, or what became of it."""

import enum
import os

from tailrace.event import EventBatch, Span
from tailrace.sources.chunks import Chunk, ChunkReader, ContentChangedError
from tailrace.sources.comparison import Recollection, Verdict
from tailrace.sources.content import BadContentError, Content, GzipContent, content_of
from tailrace.sources.rows import HeaderRules, file_rows
from tailrace.sources.spool.listing import listed_from, open_beneath
from tailrace.sources.spool.spooled import Spooled, Stage

_DECOMPRESSED = 8 * 2**20
"""Bytes of an archive that are decompressed in one go to get to the position."""


class Nothing(enum.Enum):
    """Why there is no batch."""

    ENDED = "it is read to its end, or failed: see its stage"
    MORE = "not yet: ask again"
    GONE = "it was taken away"
    UNREADABLE = "not now: its reason says why"


class Reading:
    """Reads for one source."""

    def __init__(self, source: str, directory: str, reader: ChunkReader, rules: HeaderRules) -> None:
        self._source = source
        self._directory = directory
        self._reader = reader
        self._rules = rules

    def read(self, spooled: Spooled, now_ms: int) -> EventBatch | Nothing:
        """Sets the file's stage when it ends; it is closed then."""
        spooled.reason = ""
        try:
            content = self._open(spooled)
            if spooled.recollection is not None and (answer := self._recall(spooled, content)) is not None:
                return answer
            is_plain = not isinstance(content, GzipContent)
            chunk = self._reader.read(content, spooled.progress, is_last=is_plain)
            if not self._is_unchanged(spooled, content):
                return self._fail(spooled, "it was changed while it was read")
        except ContentChangedError:
            return self._fail(spooled, "it was changed while it was read")
        except BadContentError as error:
            return self._fail(spooled, f"{error}; rows before byte {spooled.progress.position} were sent")
        except FileNotFoundError:
            spooled.close()
            return Nothing.GONE
        except OSError as error:
            spooled.close()
            spooled.reason = f"cannot be read: {error}"
            return Nothing.UNREADABLE
        return self._take(spooled, chunk, is_plain=is_plain, now_ms=now_ms)

    def _open(self, spooled: Spooled) -> Content:
        if spooled.content is None:
            path = os.path.join(self._directory, spooled.listed.name)
            spooled.content = content_of(open_beneath(self._directory, spooled.listed.name), path)
            if not self._is_unchanged(spooled, spooled.content):
                raise ContentChangedError(path)
            if isinstance(spooled.content, GzipContent) and spooled.progress.position > 0:
                spooled.recollection = Recollection(spooled.progress)
        return spooled.content

    def _is_unchanged(self, spooled: Spooled, content: Content) -> bool:
        now = listed_from(spooled.listed.name, os.fstat(content.fd))
        return now == spooled.listed

    def _recall(self, spooled: Spooled, content: Content) -> Nothing | None:
        """Decompresses up to the position, and looks whether it is what was read before."""
        assert spooled.recollection is not None
        verdict = spooled.recollection.step(content, _DECOMPRESSED)
        if verdict is Verdict.MORE:
            return Nothing.MORE
        spooled.recollection = None
        return (
            None
            if verdict is Verdict.AGREES
            else self._fail(spooled, "it was changed after it had been begun")
        )

    def _fail(self, spooled: Spooled, reason: str) -> Nothing:
        spooled.close()
        spooled.fail(reason)
        return Nothing.ENDED

    def _take(self, spooled: Spooled, chunk: Chunk, *, is_plain: bool, now_ms: int) -> EventBatch | Nothing:
        spooled.progress = chunk.progress
        if chunk.at_end and (is_plain or chunk.is_finished):
            spooled.close()
            spooled.stage = Stage.READ
        if chunk.lines.consumed:
            path = os.path.join(self._directory, spooled.listed.name)
            rows = file_rows(chunk.lines, chunk.base, now_ms, path, self._rules)
            span = Span(chunk.base, chunk.progress.position)
            return EventBatch(rows, spooled.partition, span, spooled.state(self._source))
        if spooled.stage is Stage.WAITING:
            return self._fail(
                spooled, f"the archive ends too early, after byte {chunk.progress.position} of it"
            )
        return Nothing.ENDED
