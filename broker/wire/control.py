"""Control batches: the markers that end a transaction in each partition it wrote to (KIP-98)."""

import struct
from dataclasses import dataclass

from tailrace.broker.wire.batch import BatchFields, seal
from tailrace.broker.wire.reference import decode_simple
from tailrace.errors import Corrupt

ABORT = 0
COMMIT = 1


@dataclass(frozen=True, slots=True)
class ControlMarker:
    """The record of a control batch; type 0 aborts, 1 commits, others are to be skipped (KIP-98)."""

    type: int
    coordinator_epoch: int

    @property
    def commit(self) -> bool:
        return self.type == COMMIT


def control_batch(
    *,
    producer_id: int,
    producer_epoch: int,
    commit: bool,
    coordinator_epoch: int,
    timestamp: int,
    base_offset: int = 0,
) -> bytearray:
    """The marker that ends a transaction: one record, key (version 0, type), value (version 0,
    coordinator epoch).
    """
    key = struct.pack(">hh", 0, int(commit))
    value = struct.pack(">hi", 0, coordinator_epoch)
    # length 16 (zigzag 32), attributes, two deltas of 0, key of 4 (8), value of 6 (12), no headers
    record = bytes((32, 0, 0, 0, 8)) + key + bytes((12,)) + value + b"\0"
    fields = BatchFields(
        base_offset=base_offset,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        transactional=True,
        control=True,
    )
    return seal(
        record, fields, count=1, last_offset_delta=0, base_timestamp=timestamp, max_timestamp=timestamp
    )


def read_control(buf: bytes | bytearray | memoryview, at: int = 0) -> ControlMarker:
    """The marker of the control batch at `at`; Corrupt when it is not one record with a key and, for
    markers, a value.
    """
    records = decode_simple(buf, at)
    if len(records) != 1 or records[0].key is None or len(records[0].key) < 4:
        raise Corrupt(f"the control batch at byte {at} is not one record with a type")
    kind = int.from_bytes(records[0].key[2:4], "big", signed=True)
    value = records[0].value or b""
    if kind not in (ABORT, COMMIT):
        return ControlMarker(kind, -1)
    if len(value) < 6:
        raise Corrupt(f"the marker at byte {at} has no coordinator epoch")
    return ControlMarker(kind, int.from_bytes(value[2:6], "big", signed=True))
