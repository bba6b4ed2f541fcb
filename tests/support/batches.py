"""Small record batches for tests of the log: plain, idempotent, transactional, and markers."""

from tailrace.broker.log.log import PartitionLog
from tailrace.broker.wire.batch import BatchFields, Codec
from tailrace.broker.wire.control import control_batch
from tailrace.broker.wire.reference import SimpleRecord, decode_simple, encode_simple

NOW = 1_700_000_000_000


def plain(*values: bytes, timestamp: int = NOW, codec: Codec = "none") -> bytearray:
    """One batch of records without keys; the timestamps rise by 1 ms."""
    return encode_simple(
        [SimpleRecord(None, v, (), timestamp + i, i) for i, v in enumerate(values)], BatchFields(codec=codec)
    )


def keyed(
    pairs: list[tuple[bytes, bytes | None]], timestamp: int = NOW, codec: Codec = "none", **fields
) -> bytearray:
    """One batch of (key, value); a value of None is a tombstone."""
    return encode_simple(
        [SimpleRecord(k, v, (), timestamp, i) for i, (k, v) in enumerate(pairs)],
        BatchFields(codec=codec, **fields),
    )


def numbered(
    producer: int,
    epoch: int,
    sequence: int,
    *values: bytes,
    transactional: bool = False,
    timestamp: int = NOW,
) -> bytearray:
    """One batch of an idempotent or transactional producer."""
    fields = BatchFields(
        producer_id=producer, producer_epoch=epoch, base_sequence=sequence, transactional=transactional
    )
    return encode_simple([SimpleRecord(None, v, (), timestamp, i) for i, v in enumerate(values)], fields)


def marker(
    producer: int, epoch: int, commit: bool, coordinator_epoch: int = 0, timestamp: int = NOW
) -> bytearray:
    return bytearray(
        control_batch(
            producer_id=producer,
            producer_epoch=epoch,
            commit=commit,
            coordinator_epoch=coordinator_epoch,
            timestamp=timestamp,
        )
    )


def read_all(log: PartitionLog, start: int | None = None, upto: int | None = None, max_bytes: int = 1 << 20):
    """Every record from `start` to `upto` by as many reads as it takes, markers among them."""
    records = []
    offset = log.log_start if start is None else start
    upto = log.leo if upto is None else upto
    while (found := log.read(offset, max_bytes, upto)) is not None:
        data = found.read()
        at = 0
        while at < len(data):
            size = 12 + int.from_bytes(data[at + 8 : at + 12], "big")
            if int.from_bytes(data[at + 57 : at + 61], "big"):
                records += [r for r in decode_simple(data[at : at + size]) if r.offset >= offset]
            last = int.from_bytes(data[at : at + 8], "big") + int.from_bytes(data[at + 23 : at + 27], "big")
            at += size
        offset = last + 1
    return records


def values(log: PartitionLog, **kwargs) -> list[bytes | None]:
    return [record.value for record in read_all(log, **kwargs)]
