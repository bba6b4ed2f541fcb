"""Files that may be copies of what was read already: compared with it, step by step, before a row of them is read.

A copy of a content that is still being followed is never read (`cp app.log app.log.bak`, or the first half of
copytruncate). A copy of one whose file is gone takes its place, with its position (the second half, and gzip).
"""

import enum
import os
from collections.abc import Iterable
from dataclasses import dataclass

from tailrace.sources.chunks import ChunkReader
from tailrace.sources.comparison import Recollection, SideBySide, Verdict
from tailrace.sources.content import Content, GzipContent, PlainContent
from tailrace.sources.tail.descriptors import Descriptors
from tailrace.sources.tail.patterns import Seen
from tailrace.sources.tail.tracked import Moment, Tracked


class Finding(enum.Enum):
    """What a suspect is. When it may be a copy of several contents, the first of these decides."""

    MORE = "not decided: go on"
    TAKES_OVER = "it holds the rest of a content whose file is gone"
    READ = "all of it was read and committed from another file, and nothing more is expected"
    COPY = "so far it is the same as another file that is followed"
    WAIT = "it may be an unfinished copy: only time tells"
    OTHER = "it is a file of its own"


class RelativeCutError(Exception):
    """The file of the content that a suspect is compared with was cut meanwhile: that content is lost."""

    def __init__(self, relative: Tracked) -> None:
        super().__init__(relative.path)
        self.relative = relative


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds without a modification after which nothing more is expected of a file.

    unfinished  that may be the copy of a content that is gone, and is too short for it
    together    that appeared together with another one which it equals so far
    """

    unfinished: float
    together: float


class Kinship:
    """A suspect and one content that it may be a copy of.

    While that content has a file, the two are compared byte for byte; else the suspect with what is remembered.
    """

    def __init__(self, relative: Tracked, *, is_twin: bool = False) -> None:
        """is_twin: both appeared together; else the relative was followed before the suspect came."""
        self.relative = relative
        self.is_twin = is_twin
        self._same = 0
        """Bytes of the suspect that are known to be the relative's, too."""
        self._beside: SideBySide | None = None
        self._was_read = False
        self._remembered: Recollection | None = None
        self._archive: GzipContent | None = None
        """The relative once more, when it is an archive: one can only be read forwards."""

    def find(
        self,
        content: Content,
        descriptors: Descriptors,
        reader: ChunkReader,
        budget: int,
        still: float,
        patience: Patience,
    ) -> Finding:
        """Compares on. `still`: seconds since the suspect was modified.

        Raises RelativeCutError, OSError, BadContentError.
        """
        is_beside = self.relative.attached
        if is_beside:
            self._remembered = None
            verdict = self._compare_beside(content, descriptors, reader, budget)
        else:
            self._drop_beside()
            verdict = self._compare_remembered(content, budget)
        if verdict is Verdict.MORE:
            return Finding.MORE
        if verdict is Verdict.DIFFERS:
            return Finding.OTHER
        if verdict is Verdict.AGREES:
            return Finding.TAKES_OVER
        if is_beside and self.is_twin and not content.is_finished() and not self.relative.is_deleted:
            return Finding.OTHER if still >= patience.together else Finding.WAIT
        if still < patience.unfinished and not content.is_finished():
            return Finding.COPY if is_beside else Finding.WAIT
        if not is_beside and not self._is_proven():
            return Finding.OTHER
        # What is not committed may have to be read again, and then perhaps from here.
        needed = self._same if is_beside else self.relative.progress.position
        return Finding.READ if self.relative.committed >= needed else Finding.COPY

    def _compare_beside(
        self, content: Content, descriptors: Descriptors, reader: ChunkReader, budget: int
    ) -> Verdict:
        original = descriptors.content(self.relative)
        if isinstance(original, GzipContent):
            if self._archive is None:
                self._archive = GzipContent(os.dup(original.fd))
            original = self._archive
        is_read = self.relative.progress.position > 0
        if self._beside is None or self._was_read != is_read:
            # Of what nothing was read, the file may have been cut and filled anew without anyone knowing.
            self._beside, self._was_read, self._same = SideBySide(), is_read, 0
        verdict = self._beside.step(content, original, budget)
        if isinstance(original, PlainContent) and verdict is not Verdict.MORE:
            if not reader.check(original, self.relative.progress):
                raise RelativeCutError(self.relative)
        self._same = max(self._same, self._beside.same)
        return verdict

    def _compare_remembered(self, content: Content, budget: int) -> Verdict:
        progress = self.relative.progress
        # A rewind moves a lost content's position back.
        if self._remembered is None or self._remembered.progress.position != progress.position:
            self._remembered = Recollection(progress)
        return self._remembered.step(content, budget)

    def _is_proven(self) -> bool:
        """All of the suspect was the relative's; or most of it, and more than any banner that files begin with."""
        assert self._remembered is not None
        return 0 < self._remembered.offset <= max(self._same, 2 * self._remembered.proven)

    def _drop_beside(self) -> None:
        self._beside = None
        if self._archive is not None:
            self._archive.close()
            self._archive = None

    def close(self) -> None:
        self._drop_beside()


class Suspect:
    """A file, and what it may be a copy of."""

    def __init__(self, seen: Seen, content: Content, kinships: Iterable[Kinship], now: Moment) -> None:
        self.seen = seen
        self.finding = Finding.MORE
        self._still_since = now.since(seen.mtime_ns)
        self._content: Content | None = content
        self._kinships = list(kinships)
        self.considered = frozenset(kinship.relative for kinship in self._kinships)

    def consider(self, relatives: Iterable[Tracked]) -> None:
        """Compares with those, too, that appeared since."""
        fresh = set(relatives) - self.considered
        self.considered |= fresh
        self._kinships += [Kinship(relative, is_twin=True) for relative in fresh]

    def look_at(self, seen: Seen, now: Moment) -> None:
        """Notes what a later look found."""
        if (seen.size, seen.mtime_ns) != (self.seen.size, self.seen.mtime_ns):
            self._still_since = now.since(seen.mtime_ns)
        self.seen = seen

    def step(
        self, descriptors: Descriptors, reader: ChunkReader, budget: int, now: Moment, patience: Patience
    ) -> Tracked | None:
        """Compares on; `finding` tells the outcome. Answers the content that it takes over.

        Raises RelativeCutError, OSError, BadContentError.
        """
        still = now.monotonic - self._still_since
        assert self._content is not None
        found: dict[Finding, Kinship] = {}
        for kinship in list(self._kinships):
            finding = kinship.find(self._content, descriptors, reader, budget, still, patience)
            if finding is Finding.OTHER:
                self._kinships.remove(kinship)
                kinship.close()
            found.setdefault(finding, kinship)
        self.finding = next(finding for finding in Finding if finding in found)
        return found[self.finding].relative if self.finding is Finding.TAKES_OVER else None

    def release(self) -> Content:
        """Hands the open content over."""
        content, self._content = self._content, None
        assert content is not None
        return content

    def close(self) -> None:
        """Lets go of everything that is open."""
        if self._content is not None:
            self._content.close()
            self._content = None
        for kinship in self._kinships:
            kinship.close()
