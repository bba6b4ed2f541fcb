"""Files that may be copies of what was read already: compared with it, step by step, before a row of them is read.

A copy of a content that is still being followed is never read (`cp app.log app.log.bak`, or the first half of
copytruncate). A copy of one whose file is gone takes its place, with its position (the second half, and gzip).
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from tailrace.sources.chunks import ChunkReader
from tailrace.sources.comparison import Recollection, SideBySide, Verdict
from tailrace.sources.content import Content
from tailrace.sources.tail.descriptors import Descriptors
from tailrace.sources.tail.patterns import Seen
from tailrace.sources.tail.tracked import Moment, Tracked


class Finding(enum.Enum):
    MORE = "not decided: go on"
    WAIT = "it may be an unfinished copy: only time tells"
    COPY = "all of it was read from another file"
    TAKES_OVER = "it holds the rest of a content whose file is gone"
    OTHER = "it is a file of its own"


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

    def __init__(self, relative: Tracked, *, is_known: bool) -> None:
        self.relative = relative
        self.is_known = is_known
        """The relative was followed before the suspect came; else both appeared together."""
        self._same = 0
        """Bytes of the suspect that are known to be the relative's, too."""
        self._comparison: Recollection | SideBySide | None = None
        self._against: tuple[Content, object] | None = None

    def step(self, content: Content, descriptors: Descriptors, reader: ChunkReader, budget: int) -> Verdict:
        """Raises OSError, BadContentError."""
        relative = self.relative
        if not relative.attached or relative.is_gzip:
            # A rewind moves a lost content's position back; what is still read moves on without an end.
            position = 0 if relative.attached else relative.progress.position
            if not self._goes_on(content, position):
                self._comparison = Recollection(content, relative.progress)
            assert isinstance(self._comparison, Recollection)
            verdict = self._comparison.step(budget)
            self._same = max(self._same, self._comparison.proven)
            return verdict
        original = descriptors.content(relative)
        if not self._goes_on(content, original):
            self._comparison = SideBySide(content, original)
        assert isinstance(self._comparison, SideBySide)
        verdict = self._comparison.step(budget)
        if verdict is Verdict.DIFFERS and not reader.check(original, relative.progress):
            return Verdict.SHORT  # the original was cut just now: the next look will find it lost
        self._same = max(self._same, self._comparison.same)
        return verdict

    def _goes_on(self, content: Content, other: object) -> bool:
        against = (content, other)
        if self._against == against:
            return True
        self._against = against
        return False

    @property
    def is_proven(self) -> bool:
        """Most of the suspect, and all that could be compared, is the relative's."""
        compared = self._comparison.offset if isinstance(self._comparison, Recollection) else self._same
        return 0 < compared <= 2 * self._same


class Suspect:
    """A file, and what it may be a copy of."""

    def __init__(self, seen: Seen, content: Content, kinships: Iterable[Kinship], now: Moment) -> None:
        self.seen = seen
        self.finding = Finding.MORE
        self._still_since = now.since(seen.mtime_ns)
        self._content: Content | None = content
        self._kinships = list(kinships)
        self._decided_for: tuple[tuple[Tracked, bool], ...] = ()

    def look_at(self, seen: Seen, now: Moment) -> None:
        """Notes what a later look found. A copy that is done with is compared again when something has changed."""
        if (seen.size, seen.mtime_ns) != (self.seen.size, self.seen.mtime_ns):
            self._still_since = now.since(seen.mtime_ns)
            self._decided_for = ()
        self.seen = seen

    def step(
        self, descriptors: Descriptors, reader: ChunkReader, budget: int, now: Moment, patience: Patience
    ) -> Tracked | None:
        """Compares on; `finding` tells the outcome. Answers the content that it takes over.

        Raises OSError, BadContentError.
        """
        relatives = tuple((kinship.relative, kinship.relative.attached) for kinship in self._kinships)
        if self.finding is Finding.COPY and self._decided_for == relatives:
            return None
        self._decided_for = relatives
        still = now.monotonic - self._still_since
        if self._content is None:
            self._content = descriptors.open(self.seen.path, self.seen.key)
        is_copy = False
        for kinship in list(self._kinships):
            relative = kinship.relative
            verdict = kinship.step(self._content, descriptors, reader, budget)
            if verdict is Verdict.MORE:
                self.finding = Finding.MORE
                return None
            if verdict is Verdict.DIFFERS:
                self._kinships.remove(kinship)
            elif not relative.attached:
                if verdict is Verdict.AGREES:
                    self.finding = Finding.TAKES_OVER
                    return relative
                if still >= patience.unfinished or self._content.is_finished():
                    is_copy |= kinship.is_proven
                    if not kinship.is_proven:
                        self._kinships.remove(kinship)
            elif kinship.is_known:
                is_copy = True
            elif still >= patience.together:
                self._kinships.remove(kinship)
        self.finding = Finding.COPY if is_copy else Finding.WAIT if self._kinships else Finding.OTHER
        return None

    def release(self) -> Content | None:
        """Hands the open content over; the suspect can still be stepped, and then opens it again."""
        content, self._content = self._content, None
        return content

    def close(self) -> None:
        content = self.release()
        if content is not None:
            content.close()
