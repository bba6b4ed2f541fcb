"""What happens to batches on their way into a log: checked, known again, stamped in place; and noted once written.

No body is decoded, but for a transaction marker's few bytes.
"""

import struct
from collections.abc import Sequence
from dataclasses import replace

import crc32c

from tailrace.broker.log.producers import Marker, Producers, Written
from tailrace.broker.log.segment import Segment
from tailrace.broker.wire.batch import CRC_START, BatchHeader, check_batch, stamp
from tailrace.broker.wire.control import read_control
from tailrace.errors import Corrupt

_LOG_APPEND_TIME = 0x08


def check(view: memoryview, control: bool) -> list[BatchHeader]:
    """Headers of the whole batches that make up `view`, CRCs checked; no body is decoded.

    control  the batches must be transaction markers; without it none may be one. Corrupt for anything else.
    """
    found = []
    at = 0
    while at < view.nbytes:
        header = check_batch(view, at)
        if header.is_control is not control:
            raise Corrupt(f"is_control={header.is_control} in an append with control={control}")
        if not control:
            _check_fields(header)
        found.append(header)
        at += header.size
    if not found:
        raise Corrupt("an append of no batches")
    return found


def _check_fields(header: BatchHeader) -> None:
    """What a batch must have beyond a right CRC; a compacted one on disk need not.

    One without a sequence but with a producer is the group coordinator's: offsets within a transaction.
    """
    if header.count < 1 or header.count != header.last_offset_delta + 1:
        raise Corrupt(f"{header.count} records with a last offset delta of {header.last_offset_delta}")
    if header.producer_id >= 0 and header.producer_epoch < 0:
        raise Corrupt(f"producer {header.producer_id} without an epoch")
    if header.is_transactional and header.producer_id < 0:
        raise Corrupt("a transactional batch without a producer id")


def written_before(found: Sequence[BatchHeader], producers: Producers) -> tuple[Written, Written] | None:
    """First and last of the original appends when every batch is a repeat; None when they are to be appended.

    Raises what Kafka answers when they do not fit what the producer wrote last.
    """
    repeats = [producers.duplicate(header) for header in found]
    if repeats[0] is not None and repeats[-1] is not None and all(repeats):
        return repeats[0], repeats[-1]
    producers.check(found)
    return None


def stamp_all(
    view: memoryview,
    found: Sequence[BatchHeader],
    offset: int,
    epoch: int,
    append_time: int,
    producers: Producers,
) -> list[BatchHeader]:
    """Sets offsets from `offset` on, the leader epoch and, unless it is -1, LogAppendTime (ms); the headers then.

    Raises InvalidProducerEpoch or CoordinatorFenced for a marker that comes too late.
    """
    at, stamped = 0, []
    for header in found:
        stamp(view, at, offset, epoch)
        header = replace(header, base_offset=offset, leader_epoch=epoch)
        if header.is_control:
            producers.check_marker(read_marker(view[at : at + header.size], header))
        elif append_time >= 0:
            header = _stamp_time(view, at, header, append_time)
        stamped.append(header)
        offset = header.next_offset
        at += header.size
    return stamped


def note_all(
    view: memoryview,
    stamped: Sequence[BatchHeader],
    segment: Segment,
    producers: Producers,
    interval: int,
    now_ms: int,
) -> None:
    """Takes batches that were written at the segment's end into its indexes and the producers' state."""
    at = 0
    for header in stamped:
        if header.is_control:
            aborted = producers.end(read_marker(view[at : at + header.size], header), now_ms)
            if aborted is not None:
                segment.aborted.append(aborted)
        else:
            producers.add(header, now_ms)
        segment.note(header, segment.size, interval)
        at += header.size


def read_marker(data: bytes | memoryview, header: BatchHeader) -> Marker:
    """The marker in a control batch; `header` has its final offsets."""
    control = read_control(data)
    return Marker(
        header.producer_id,
        header.producer_epoch,
        control.coordinator_epoch,
        control.commit,
        header.base_offset,
        header.max_timestamp,
    )


def _stamp_time(view: memoryview, at: int, header: BatchHeader, now_ms: int) -> BatchHeader:
    """Sets LogAppendTime and the batch's largest timestamp, which is then every record's; mends the CRC."""
    attributes = header.attributes | _LOG_APPEND_TIME
    struct.pack_into(">h", view, at + CRC_START, attributes)
    struct.pack_into(">q", view, at + 35, now_ms)
    crc = crc32c.crc32c(view[at + CRC_START : at + header.size])
    struct.pack_into(">I", view, at + CRC_START - 4, crc)
    return replace(header, attributes=attributes, max_timestamp=now_ms, crc=crc)
