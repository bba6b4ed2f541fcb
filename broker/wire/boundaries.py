"""Where the records of a section begin and end: guessed from zero bytes and proved, or walked.

A record is its length, a zero byte (attributes), and fields; without headers it also ends with a zero byte.
So zero bytes tell where records may begin, and the guess is believed only when each record ends where the
next one begins, the first begins where the section does and the last ends there. A wrong guess cannot pass.
"""

import numpy as np
import numpy.typing as npt

from tailrace.broker.wire.varint import I64, U64, Loads
from tailrace.errors import Corrupt
from tailrace.masks import places

Bytes = npt.NDArray[np.uint8]

_FEW = 64
"""Records below which a walk is quicker than the vectors."""
_LENGTH_WIDTH = 4
"""Bytes of the longest length that is guessed: records of up to 128 MiB."""
_PASSES = 4
_SEVEN = np.uint64(0x7F)


def record_starts(arena: Bytes, loads: Loads, start: int, end: int, count: int) -> tuple[I64, I64]:
    """(first byte behind each record's length, byte behind each record) of the section arena[start:end].

    The arena has 16 bytes more than any section's end. Corrupt when `count` records do not fill the section.
    """
    if count >= _FEW and count <= (end - start) // 2:
        zeros = places(arena[start:end] == 0) + start
        for candidates in (_behind_zeros, _before_zeros):
            found = _chain(loads, candidates(arena, zeros, start), start, end, count)
            if found is not None:
                return found
    return _walk(arena.data, start, end, count)


def _behind_zeros(arena: Bytes, zeros: I64, start: int) -> I64:  # noqa: ARG001 - one signature for both
    """Records behind one that has no headers: the next zero byte is the attributes', behind the length."""
    gaps = np.diff(zeros)
    return np.concatenate(([start], zeros[:-1][(gaps >= 2) & (gaps <= _LENGTH_WIDTH + 1)] + 1))


def _before_zeros(arena: Bytes, zeros: I64, start: int) -> I64:
    """Records behind anything: in front of a zero stand the bytes of a length, all but the last above 127."""
    zeros = zeros[zeros >= start + _LENGTH_WIDTH]
    last = arena[zeros - 1]
    zeros = zeros[(last != 0) & (last < 0x80)]
    width = np.ones(len(zeros), np.int64)
    more = np.ones(len(zeros), np.bool_)
    for back in range(2, _LENGTH_WIDTH + 1):
        more = more & (arena[zeros - back] >= 0x80)
        width += more
    return np.concatenate(([start], zeros - width))


def _chain(loads: Loads, begins: I64, start: int, end: int, count: int) -> tuple[I64, I64] | None:
    """The candidates that form an unbroken chain of `count` records over the section; None when none do."""
    size, behind = _lengths(loads.at(begins), begins)
    ends = behind + size
    likely = (size > 0) & (ends <= end)
    for _ in range(_PASSES):
        begins, behind, ends = begins[likely], behind[likely], ends[likely]
        if len(begins) < count:
            return None
        if len(begins) == count:
            proved = begins[0] == start and ends[-1] == end and bool((begins[1:] == ends[:-1]).all())
            return (behind, ends) if proved else None
        # What leads nowhere, and what nothing leads to, is no record.
        following = np.searchsorted(begins, ends)
        goes_on = begins[np.minimum(following, len(begins) - 1)] == ends
        reached = begins == start
        reached[following[goes_on]] = True
        likely = (goes_on | (ends == end)) & reached
    return None


def _lengths(words: U64, places: I64) -> tuple[I64, I64]:
    """(value, place behind) of varints of up to five bytes; of longer ones a value that the proof refuses."""
    value = words & _SEVEN
    more = words & np.uint64(0x80) != 0
    behind = places + 1
    for byte in range(1, _LENGTH_WIDTH + 1):
        if not bool(more.any()):
            break
        septet = words >> np.uint64(8 * byte) & _SEVEN
        value |= np.where(more, septet << np.uint64(7 * byte), 0)
        behind += more
        more &= (words >> np.uint64(8 * byte + 7) & np.uint64(1)).astype(np.bool_)
    half = (value >> np.uint64(1)).view(np.int64)
    return half ^ -(value & np.uint64(1)).view(np.int64), behind


def _walk(buf: memoryview, start: int, end: int, count: int) -> tuple[I64, I64]:
    if count > end - start:
        raise Corrupt(f"{count} records in {end - start} bytes")
    begins: list[int] = []
    ends: list[int] = []
    at = start
    for _ in range(count):
        if at >= end:
            raise Corrupt(f"a section of {count} records ends after {len(begins)}")
        byte = buf[at]
        size = byte & 0x7F
        at += 1
        shift = 7
        while byte & 0x80:
            if at >= end or shift > 28:
                raise Corrupt(f"a record's length before byte {at} does not end")
            byte = buf[at]
            size |= (byte & 0x7F) << shift
            shift += 7
            at += 1
        if size & 1 or not 0 < size >> 1 <= end - at:
            raise Corrupt(f"a record at byte {at} has a length that cannot be, {end - at} bytes are left")
        begins.append(at)
        at += size >> 1
        ends.append(at)
    if at != end:
        raise Corrupt(f"{end - at} bytes behind the last record of a batch")
    return np.array(begins, np.int64), np.array(ends, np.int64)
