"""How far a file was read, and what it looked like up to there: enough to know the same content again.

Pure values. They travel in the state that sinks store beside a position, so a file is known by what was read
of it, not by its name: its first bytes, its last bytes before the position, and a running CRC of everything between.
"""

from dataclasses import dataclass, replace
from typing import Any

from crc32c import crc32c

HEAD = TAIL = 1024
FIRST_MARK = 32 * 1024
"""More than any banner that several files begin with."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What was read of one file. CRCs are CRC-32C.

    position      next byte to read: everything before it was sent, or skipped at the start
    began         where reading began (above 0 only for `start: end`)
    crc           of [began, position)
    head_length   bytes from 0 that head_crc covers; grows with the position up to HEAD
    tail_length   bytes right before the position that tail_crc covers; up to TAIL
    part          number of the part of a line that comes next; 0 at the start of a line
    unterminated  the last line was sent although its end had not come
    marks         (end, CRC of [began, end)) 32, 64, 128, ... KiB after `began`: what short copies are known by
    """

    position: int = 0
    began: int = 0
    crc: int = 0
    head_length: int = 0
    head_crc: int = 0
    tail_length: int = 0
    tail_crc: int = 0
    part: int = 0
    unterminated: bool = False
    marks: tuple[tuple[int, int], ...] = ()

    def advance(
        self, tail: memoryview, consumed: memoryview, *, part: int = 0, unterminated: bool = False
    ) -> "Progress":
        """After `consumed` was read too; `tail` is the bytes right before it (all that tail_crc covers)."""
        position = self.position + len(consumed)
        head_length, head_crc = self.head_length, self.head_crc
        if head_length < HEAD and head_length == self.position:
            more = consumed[: HEAD - head_length]
            head_length, head_crc = head_length + len(more), crc32c(more, head_crc)
        crc, marks = self._crc_and_marks(consumed)
        if len(consumed) >= TAIL:
            new_tail = bytes(consumed[-TAIL:])
        else:
            new_tail = (bytes(tail) + bytes(consumed))[-TAIL:]
        return Progress(
            position,
            self.began,
            crc,
            head_length,
            head_crc,
            len(new_tail),
            crc32c(new_tail),
            part,
            unterminated,
            marks,
        )

    def _crc_and_marks(self, consumed: memoryview) -> tuple[int, tuple[tuple[int, int], ...]]:
        crc, marks, at = self.crc, self.marks, 0
        while (mark := self._next_mark(marks)) <= self.position + len(consumed):
            upto = mark - self.position
            crc = crc32c(consumed[at:upto], crc)
            marks = (*marks, (mark, crc))
            at = upto
        return crc32c(consumed[at:], crc), marks

    def _next_mark(self, marks: tuple[tuple[int, int], ...]) -> int:
        return self.began + (FIRST_MARK << len(marks))

    def to_json(self) -> dict[str, Any]:
        return {
            "position": self.position,
            "began": self.began,
            "crc": self.crc,
            "head": [self.head_length, self.head_crc],
            "tail": [self.tail_length, self.tail_crc],
            "mid_line": self.part,
            "unterminated": self.unterminated,
            "marks": [list(mark) for mark in self.marks],
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Progress":
        """Raises KeyError, TypeError or ValueError for what to_json cannot have made."""
        head_length, head_crc = value["head"]
        tail_length, tail_crc = value["tail"]
        numbers = (
            value["position"],
            value["began"],
            value["crc"],
            head_length,
            head_crc,
            tail_length,
            tail_crc,
        )
        if any(type(number) is not int or number < 0 for number in (*numbers, value["mid_line"])):
            raise ValueError("a number is missing")
        if head_length > HEAD or tail_length > TAIL or tail_length > value["position"]:
            raise ValueError("lengths that cannot be")
        marks = tuple((int(end), int(crc)) for end, crc in value["marks"])
        return Progress(*numbers, value["mid_line"], bool(value["unterminated"]), marks)


def skipped(position: int, head: bytes, tail: bytes) -> Progress:
    """Reading begins at `position`; `head` and `tail` are the file's first bytes and the last before it."""
    return Progress(
        position=position,
        began=position,
        head_length=len(head),
        head_crc=crc32c(head),
        tail_length=len(tail),
        tail_crc=crc32c(tail),
    )


def restarted(progress: Progress) -> Progress:
    """Where the reading of this file began, when nothing is known about a later place."""
    return replace(Progress(), position=progress.began, began=progress.began)
