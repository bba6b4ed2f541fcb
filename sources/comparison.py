"""Tells whether one content begins like another, step by step, so that a large file holds nothing up.

Two ways: against what is remembered of a content (its Progress), and against the other file's own bytes.
"""

import enum

from crc32c import crc32c

from tailrace.sources.content import Content, PlainContent
from tailrace.sources.progress import Progress

_BLOCK = 64 * 1024


class Verdict(enum.Enum):
    MORE = "not decided: go on"
    AGREES = "it begins with all that was read"
    DIFFERS = "it is something else"
    SHORT = "it agrees as far as it goes"


class Recollection:
    """Whether a content begins with all that `progress` remembers. Later steps see what was added meanwhile."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.proven = 0
        """Bytes of the content that a CRC has shown to be the same."""
        self.offset = progress.began
        """Bytes up to here agree, or are not known to differ."""
        self._crc = 0
        self._has_head = False
        self._has_tail = False
        self._marks = dict(progress.marks)

    def step(self, content: Content, budget: int) -> Verdict:
        """Reads about `budget` bytes at the most. Raises OSError."""
        if (verdict := self._check_ends(content)) is not None:
            return verdict
        end = self.progress.position
        buffer = memoryview(bytearray(_BLOCK))
        while self.offset < end:
            if budget <= 0:
                return Verdict.MORE
            upto = min((mark for mark in self._marks if mark > self.offset), default=end)
            block = buffer[: min(_BLOCK, upto - self.offset)]
            filled = content.read_at(self.offset, block)
            if filled == 0:
                return Verdict.SHORT
            self._crc = crc32c(block[:filled], self._crc)
            self.offset += filled
            budget -= filled
            if self.offset in self._marks:
                if self._marks[self.offset] != self._crc:
                    return Verdict.DIFFERS
                self.proven = self.offset
        return Verdict.AGREES if self._crc == self.progress.crc else Verdict.DIFFERS

    def _check_ends(self, content: Content) -> Verdict | None:
        """A plain file shows its first and last bytes at once, which tells nearly all others apart."""
        progress = self.progress
        if not self._has_head:
            verdict = self._check_at(content, 0, progress.head_length, progress.head_crc)
            if verdict is not None:
                return verdict
            self._has_head = True
        if not self._has_tail and isinstance(content, PlainContent):
            verdict = self._check_at(
                content, progress.position - progress.tail_length, progress.tail_length, progress.tail_crc
            )
            if verdict is Verdict.DIFFERS:
                return verdict
            self._has_tail = verdict is None
        return None

    def _check_at(self, content: Content, offset: int, length: int, crc: int) -> Verdict | None:
        block = memoryview(bytearray(length))
        if content.read_at(offset, block) < length:
            return Verdict.SHORT
        return None if crc32c(block) == crc else Verdict.DIFFERS


class SideBySide:
    """Whether a content is, as far as it goes, the same as the beginning of another one, byte for byte."""

    def __init__(self) -> None:
        self.same = 0
        """Bytes compared and found equal."""

    def step(self, content: Content, original: Content, budget: int) -> Verdict:
        """MORE, DIFFERS or SHORT. What is longer than an original that is there in whole differs. Raises OSError."""
        left, right = memoryview(bytearray(_BLOCK)), memoryview(bytearray(_BLOCK))
        while budget > 0:
            count = content.read_at(self.same, left)
            if count == 0:
                return Verdict.SHORT
            there = original.read_at(self.same, right[:count])
            if left[:there] != right[:there]:
                return Verdict.DIFFERS
            self.same += there
            budget -= count
            if there < count:
                is_whole = isinstance(original, PlainContent) or original.is_finished()
                return Verdict.DIFFERS if is_whole else Verdict.SHORT
        return Verdict.MORE
