"""Which partition a key belongs to: murmur2 as the Java client computes it, so that all clients agree."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tailrace.broker.wire.views import Ranges

_MULTIPLIER = 0x5BD1E995
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF
_LONG = 256
"""Bytes of a key above which it is hashed by itself, and not in step with the others."""

U32 = npt.NDArray[np.uint32]


def murmur2(data: bytes) -> int:
    """32 bits, unsigned (org.apache.kafka.common.utils.Utils.murmur2 gives the same bits, signed)."""
    value = (_SEED ^ len(data)) & _MASK
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * _MULTIPLIER & _MASK
        word = (word ^ word >> 24) * _MULTIPLIER & _MASK
        value = (value * _MULTIPLIER & _MASK) ^ word
    if whole < len(data):
        value = (value ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    value = (value ^ value >> 13) * _MULTIPLIER & _MASK
    return value ^ value >> 15


def partition_of(key: bytes, partitions: int) -> int:
    """Where the Java client, librdkafka's murmur2 and kafka-python put this key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def partitions_of(keys: pa.Array, partitions: int, default: int) -> npt.NDArray[np.int64]:
    """partition_of() each of a pa.binary() array's keys; `default` for those that are null."""
    ranges = Ranges.of(keys)
    hashes = _murmur2(ranges)
    for row in np.flatnonzero(ranges.sizes > _LONG).tolist():
        hashes[row] = murmur2(keys[row].as_py())
    places = ((hashes & np.uint32(0x7FFFFFFF)) % np.uint32(partitions)).astype(np.int64)
    if keys.null_count:
        places[keys.is_null().to_numpy(zero_copy_only=False)] = default
    return places


def _murmur2(ranges: Ranges) -> U32:
    """Of every range of up to _LONG bytes: four bytes of each at a time."""
    multiplier = np.uint32(_MULTIPLIER)
    padded = np.concatenate((ranges.data, np.zeros(4, np.uint8)))
    words: U32 = np.ndarray((len(padded) - 3,), "<u4", buffer=padded.data, strides=(1,))
    values: U32 = np.uint32(_SEED) ^ ranges.sizes.astype(np.uint32)
    whole = np.where(ranges.sizes > _LONG, 0, ranges.sizes & ~3)
    rows = np.flatnonzero(whole)
    at = 0
    while len(rows):
        word = words[ranges.starts[rows] + at] * multiplier
        word = (word ^ word >> np.uint32(24)) * multiplier
        values[rows] = values[rows] * multiplier ^ word
        at += 4
        rows = rows[whole[rows] > at]
    left = ranges.sizes & 3
    rows = np.flatnonzero(left)
    kept = (np.uint32(1) << (left[rows] * 8).astype(np.uint32)) - np.uint32(1)
    rest = words[ranges.starts[rows] + whole[rows]] & kept
    values[rows] = (values[rows] ^ rest) * multiplier
    values = (values ^ values >> np.uint32(13)) * multiplier
    return values ^ values >> np.uint32(15)
