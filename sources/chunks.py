"""Reads one chunk of a file into a reused buffer, after making sure that it is still the content read so far.

The fingerprint is compared *after* the bytes were read, on the same descriptor: a file that was truncated and
filled anew in between cannot pass as the old one.
"""

from dataclasses import dataclass

import numpy as np
from crc32c import crc32c

from tailrace.sources.content import BadContentError, Content, PlainContent
from tailrace.sources.lines import Lines, split_lines
from tailrace.sources.progress import TAIL, Progress

CHUNK = 7 * 2**18
"""Bytes read at once. Each chunk costs its hundred calls into numpy and Arrow, between which two threads pass the
interpreter's lock to and fro: half a MiB costs twice the time of 2 MiB a byte, and 4 MiB no less. Lines of more than
60 bytes then make two full record batches (of the usual 1 MiB) a chunk: 2 MiB made three, and a third more requests."""


class ContentChangedError(Exception):
    """The file does not hold what was read of it any more: truncated, written anew, or another file."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines that begin at byte `base`.

    progress     where reading stands after them
    rest         bytes behind them that make no row yet
    at_end       nothing more was there than lines and rest
    is_finished  and nothing can follow: an archive that ended
    """

    base: int
    lines: Lines
    progress: Progress
    rest: int
    at_end: bool
    is_finished: bool


class ChunkReader:
    """One for a source: owns the buffer that every read goes through."""

    def __init__(self, max_line: int) -> None:
        self._max_line = max_line
        self._buffer = bytearray(TAIL + CHUNK)
        self._head = bytearray(TAIL)

    def read(self, content: Content, progress: Progress, *, is_last: bool = False) -> Chunk:
        """The next lines after `progress`.

        is_last: what stands at the end without a line end is a row, too. So it is in an archive that has ended.
        Raises ContentChangedError, OSError, and BadContentError when nothing is left before a broken place.
        """
        chunk = self._read_into(self._buffer, content, progress, is_last)
        if chunk.lines.consumed == 0 and not chunk.at_end and len(self._buffer) < TAIL + self._max_line + 2:
            self._buffer = bytearray(TAIL + self._max_line + 2)
            chunk = self._read_into(self._buffer, content, progress, is_last)
        return chunk

    def _read_into(self, buffer: bytearray, content: Content, progress: Progress, is_last: bool) -> Chunk:
        view = memoryview(buffer)
        behind = progress.tail_length
        filled = content.read_at(progress.position - behind, view)
        self._check(content, progress, view[: min(filled, behind)])
        is_finished, broken = False, None
        if at_end := filled < len(view):
            try:
                is_finished = content.is_finished()
            except BadContentError as error:
                broken = error
        is_last = at_end and broken is None and (is_last or is_finished)
        data = np.frombuffer(view[behind:filled], np.uint8)
        lines = split_lines(data, max_line=self._max_line, part=progress.part, last=is_last)
        if lines.consumed == 0:
            if broken is not None:
                raise broken
            return Chunk(progress.position, lines, progress, len(data), at_end, is_finished)
        after = progress.advance(
            view[:behind],
            view[behind : behind + lines.consumed],
            part=lines.part,
            unterminated=is_last and lines.part > 0,
        )
        rest = data[lines.consumed :]
        at_end = at_end and broken is None and not (rest == ord("\n")).any()
        return Chunk(progress.position, lines, after, len(rest), at_end, is_finished and at_end)

    def _check(self, content: Content, progress: Progress, tail: memoryview) -> None:
        if len(tail) < progress.tail_length or crc32c(tail) != progress.tail_crc:
            raise ContentChangedError("the bytes before the position have changed")
        if isinstance(content, PlainContent) and progress.head_length:
            head = memoryview(self._head)[: progress.head_length]
            if content.read_at(0, head) < len(head) or crc32c(head) != progress.head_crc:
                raise ContentChangedError("the first bytes have changed")

    def check(self, content: Content, progress: Progress) -> bool:
        """True when a plain file begins, and goes on right before the position, as `progress` tells."""
        tail = memoryview(self._buffer)[: progress.tail_length]
        filled = content.read_at(progress.position - progress.tail_length, tail)
        try:
            self._check(content, progress, tail[:filled])
        except ContentChangedError:
            return False
        return True
