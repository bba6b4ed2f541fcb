"""Where the records of a section begin and end: guessed from zero bytes and proved, or walked.

A record without headers ends with a zero byte, and its offset delta is its number. So each zero byte is
a candidate for an end; what parses behind it as record k is put in place k; and the chain is believed
only when each
record ends where the next begins, and the last where the section ends. A wrong guess cannot pass.
"""

import numpy as np
import numpy.typing as npt

from tailrace.broker.wire.varint import I64, Loads
from tailrace.errors import Corrupt

_FEW = 64
"""Records below which a walk is quicker than the vectors."""
_LONGEST = 15
"""Bytes that the guess looks at: length (5), attributes (1), time delta (6), offset delta (3)."""
_SEVEN = np.uint64(0x7F)


def record_starts(
    arena: npt.NDArray[np.uint8], loads: Loads, start: int, end: int, count: int
) -> tuple[I64, I64]:
    """(first byte behind each record's length, byte behind each record) of the section arena[start:end].

    The arena has 16 bytes more than any section's end. Corrupt when `count` records do not fill the section.
    """
    if count >= _FEW:
        guessed = _guess(arena, loads, start, end, count)
        if guessed is not None:
            return guessed
    return _walk(arena.data, start, end, count)


def _guess(
    arena: npt.NDArray[np.uint8], loads: Loads, start: int, end: int, count: int
) -> tuple[I64, I64] | None:
    zeros = np.flatnonzero(arena[start : end - 1] == 0) + (start + 1)
    if len(zeros) + 1 < count or len(zeros) > 8 * count:
        return None
    begins = np.empty(len(zeros) + 1, np.int64)
    begins[0] = start
    begins[1:] = zeros
    size, behind = _short_varints(loads.at(begins), begins)
    ends = behind + size
    # ends past the section, and what is no record, are dropped before more bytes are loaded
    likely = (size > 0) & (ends <= end)
    likely &= arena[np.where(likely, ends - 1, start)] == 0
    begins, behind, ends = begins[likely], behind[likely], ends[likely]
    _, offsets_at = _short_varints(loads.at(behind + 1), behind + 1)
    delta, _ = _short_varints(loads.at(offsets_at), offsets_at)
    fits = (delta >= 0) & (delta < count) & (arena[behind] == 0)
    begins, behind, ends, delta = begins[fits], behind[fits], ends[fits], delta[fits]
    if len(delta) < count:
        return None
    chain = np.full(count, -1, np.int64)
    chain[delta[::-1]] = np.arange(len(delta))[::-1]  # of several candidates for a place the first counts
    if int(chain.min()) < 0:
        return None
    begins, behind, ends = begins[chain], behind[chain], ends[chain]
    proved = begins[0] == start and ends[-1] == end and bool((begins[1:] == ends[:-1]).all())
    return (behind, ends) if proved else None


def _short_varints(words: npt.NDArray[np.uint64], places: I64) -> tuple[I64, I64]:
    """Varints of up to five bytes; a longer one gives some wrong value, which the proof refuses."""
    value = words & _SEVEN
    more = words & np.uint64(0x80) != 0
    behind = places + 1
    for byte in range(1, 6):
        if not bool(more.any()):
            break
        septet = words >> np.uint64(8 * byte) & _SEVEN
        value = np.where(more, value | septet << np.uint64(7 * byte), value)
        behind = behind + more
        more = more & (words >> np.uint64(8 * byte + 7) & np.uint64(1)).astype(np.bool_)
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
