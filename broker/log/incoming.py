"""What an append looks at before it writes: whole batches with right CRCs, and LogAppendTime."""

import struct
from dataclasses import replace

import crc32c

from tailrace.broker.wire.batch import CRC_START, BatchHeader, check_batch
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


def stamp_time(view: memoryview, at: int, header: BatchHeader, now_ms: int) -> BatchHeader:
    """Sets LogAppendTime and the batch's largest timestamp, which is then every record's; mends the CRC."""
    attributes = header.attributes | _LOG_APPEND_TIME
    struct.pack_into(">h", view, at + CRC_START, attributes)
    struct.pack_into(">q", view, at + 35, now_ms)
    crc = crc32c.crc32c(view[at + CRC_START : at + header.size])
    struct.pack_into(">I", view, at + CRC_START - 4, crc)
    return replace(header, attributes=attributes, max_timestamp=now_ms, crc=crc)
