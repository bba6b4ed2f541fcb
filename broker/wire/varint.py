"""Zigzag varints of whole columns, by numpy: encoding into pieces of at most 12 bytes, decoding by
unaligned loads.

A *piece* is what one Arrow BinaryView can hold inside itself: the bytes stand in two uint64, `low` has
the first
eight and `high` the rest.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tailrace.errors import Corrupt

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_SEVEN = np.uint64(0x7F)
_MAX_WIDTH = 8
"""Bytes of the widest varint that is decoded here: 55 bits and a sign. Anything larger is no batch of
ours to read fast.
"""


def zigzag(values: I64) -> U64:
    return ((values << 1) ^ (values >> 63)).view(np.uint64)


def widths(zigzagged: U64) -> I64:
    """Bytes of each varint."""
    out = np.ones(len(zigzagged), np.int64)
    if not len(zigzagged):
        return out
    largest = int(zigzagged.max())
    bits = 7
    while largest >> bits:
        out += zigzagged >= np.uint64(1 << bits)
        bits += 7
    return out


def varint_bytes(zigzagged: U64) -> U64:
    """The bytes of each varint, first byte lowest; at most 8 (56 bits)."""
    out = zigzagged & _SEVEN
    largest = int(zigzagged.max()) if len(zigzagged) else 0
    bits = 7
    while largest >> bits:
        more = zigzagged >= np.uint64(1 << bits)
        shift = np.uint64(bits // 7 * 8)
        out |= (zigzagged >> np.uint64(bits) & _SEVEN) << shift
        out |= more.astype(np.uint64) << (shift - np.uint64(1))
        bits += 7
    return out


@dataclass(slots=True)
class Pieces:
    """n pieces being written side by side."""

    low: U64
    high: U64
    size: I64

    @classmethod
    def empty(cls, n: int) -> "Pieces":
        return cls(np.zeros(n, np.uint64), np.zeros(n, np.uint64), np.zeros(n, np.int64))

    def put(self, values: U64, width: I64) -> None:
        """Appends `width` bytes of each value (at most 8); the caller keeps each piece within 12."""
        bits = (self.size << 3).view(np.uint64)
        self.low |= values << bits  # numpy shifts by 64 and more to 0, and so by what wraps below 0
        self.size = self.size + width
        if int(self.size.max()) > 8:
            self.high |= values >> (np.uint64(64) - bits) | values << (bits - np.uint64(64))


class Loads:
    """Eight bytes at any place of a buffer; the buffer has 8 bytes more than anyone may ask for."""

    def __init__(self, buf: npt.NDArray[np.uint8]) -> None:
        count = len(buf) - 7
        self._words: U64 = np.ndarray((count,), "<u8", buffer=buf.data, strides=(1,))

    def at(self, places: I64) -> U64:
        return self._words[places]

    def varints(self, places: I64, ends: I64) -> tuple[I64, I64]:
        """(values, places behind them). Corrupt when one reaches past its end or is wider than _MAX_WIDTH."""
        if bool((places >= ends).any()):
            raise Corrupt("a record ends inside its fields")
        words = self._words[places]
        first = words & _SEVEN
        more = words & np.uint64(0x80) != 0
        if not bool(more.any()):
            return _unzigzag(first), places + 1
        value = first
        width = np.ones(len(places), np.int64)
        for byte in range(1, _MAX_WIDTH):
            width += more
            septet = words >> np.uint64(8 * byte) & _SEVEN
            value = np.where(more, value | septet << np.uint64(7 * byte), value)
            more = more & (words >> np.uint64(8 * byte + 7) & np.uint64(1)).astype(np.bool_)
            if not bool(more.any()):
                break
        else:
            raise WideVarint
        behind = places + width
        if bool((behind > ends).any()):
            raise Corrupt("a record ends inside its fields")
        return _unzigzag(value), behind


class WideVarint(Exception):
    """A varint of more than 8 bytes, which only the plain reader reads."""


def _unzigzag(values: U64) -> I64:
    half = (values >> np.uint64(1)).view(np.int64)
    return half ^ -(values & np.uint64(1)).view(np.int64)
