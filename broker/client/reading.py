"""Where a fetcher stands in one partition, and what a fetch answer's bytes say about it before they are
decoded."""

import struct
from dataclasses import dataclass

from tailrace.broker.client.topics import TopicPartition
from tailrace.errors import Corrupt

_HEADER_SIZE = 61
_BATCH_HEAD = struct.Struct(">qii")
_LAST_DELTA = struct.Struct(">i")
_LAST_DELTA_AT = 23


@dataclass(slots=True, eq=False)
class Reading:
    """One partition that is read; a seek makes a new one, so that late answers to the old one are told apart.

    asked        offset of the next request
    given        offset of the next row that poll() answers
    topic_id     the topic's id when reading began: one of the same name made later is another topic
    leader_epoch epoch of the leader that was last asked
    batch_epoch  leader epoch of the last batch read (-1: none yet)
    resting      an error was raised for it; it waits for a seek
    busy         a request or an unhandled error of it is on its way
    not_before   moment (monotonic) of the next attempt after an error
    """

    partition: TopicPartition
    asked: int
    given: int
    topic_id: str | None = None
    leader_epoch: int = -1
    batch_epoch: int = -1
    resting: bool = False
    busy: bool = False
    not_before: float = 0.0
    failing_since: float | None = None
    log_start: int = -1
    high_watermark: int = -1
    last_stable: int = -1


@dataclass(frozen=True, slots=True)
class Extent:
    """What whole record batches cover: the offset behind the last of them, and its leader epoch."""

    next_offset: int
    leader_epoch: int


def extent_of(records: memoryview, offset: int) -> Extent | None:
    """None when there is no whole batch. Corrupt when the batches do not go on from `offset`."""
    at, last, end = 0, -1, len(records)
    while at + _BATCH_HEAD.size <= end:
        _, length, _ = _BATCH_HEAD.unpack_from(records, at)
        if length < _HEADER_SIZE - 12:
            raise Corrupt(f"a record batch announces {length} bytes")
        if at + 12 + length > end:
            break
        last = at
        at += 12 + length
    if last < 0:
        return None
    base, _, epoch = _BATCH_HEAD.unpack_from(records, last)
    (delta,) = _LAST_DELTA.unpack_from(records, last + _LAST_DELTA_AT)
    if delta < 0 or base + delta < offset:
        raise Corrupt(f"a record batch ends at offset {base + delta}, and {offset} was asked for")
    return Extent(base + delta + 1, epoch)
