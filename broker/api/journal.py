"""The coordinators' own topics: small records, one batch a decision, read again in full at start."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tailrace.broker.api.broker import Broker
from tailrace.broker.log.log import PartitionLog
from tailrace.broker.wire.batch import BatchFields, BatchHeader, headers
from tailrace.broker.wire.control import read_control
from tailrace.broker.wire.reference import SimpleRecord, decode_simple, encode_simple
from tailrace.errors import Corrupt

OFFSETS_TOPIC = "__consumer_offsets"
TRANSACTIONS_TOPIC = "__transaction_state"
PARTITIONS = 1
"""Partitions that each of the two is made with. Which of them holds a key is Kafka's own rule, for whatever
number there is, so a directory that came from Apache Kafka (50) is read as it is."""

CONFIG = {"cleanup.policy": "compact", "compression.type": "producer", "segment.bytes": str(4 * 2**20)}
"""Small segments, since only closed ones are compacted, and all of it is read at every start."""

_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One batch as it is read back: records as (offset, key, value), or a transaction's end."""

    producer_id: int | None
    """Of a transactional batch, or a marker."""
    records: Sequence[tuple[int, bytes | None, bytes | None]]
    commit: bool | None = None
    """How the producer's transaction ended here; None for records."""


class Journal:
    """One partition of an internal topic."""

    def __init__(self, broker: Broker, log: PartitionLog) -> None:
        self._broker = broker
        self.log = log

    def append(
        self, records: Sequence[tuple[bytes, bytes | None]], producer: tuple[int, int] | None = None
    ) -> int:
        """The offset of the first record. `producer` (id, epoch): within its transaction.

        Raises KafkaError KAFKA_STORAGE_ERROR, and what PartitionLog.append raises about the producer.
        """
        now = self._broker.clock.now_ms()
        fields = BatchFields()
        if producer is not None:
            fields = BatchFields(producer_id=producer[0], producer_epoch=producer[1], transactional=True)
        simple = [SimpleRecord(key, value, (), now, offset) for offset, (key, value) in enumerate(records)]
        return self._broker.append(self.log, encode_simple(simple, fields)).first_offset

    def is_synced(self) -> bool:
        return self.log.flushed >= self.log.leo

    async def synced(self) -> None:
        """Returns when everything appended before this call is on disk. KafkaError KAFKA_STORAGE_ERROR."""
        await self._broker.synced(self.log, self.log.leo)

    def replay(self, take: Callable[[Entry], None]) -> None:
        """Gives `take` every batch from the log's start. Corrupt, with the place, when one cannot be read."""
        offset = self.log.log_start
        while (found := self.log.read(offset, _READ, self.log.leo)) is not None:
            data = found.read()
            for at, header in headers(data):
                try:
                    take(_entry(data, at, header))
                except (Corrupt, ValueError) as error:
                    raise Corrupt(
                        f"{self.log.directory}, batch at offset {header.base_offset}: {error}"
                    ) from error
                offset = header.next_offset


def _entry(data: bytes, at: int, header: BatchHeader) -> Entry:
    if header.is_control:
        return Entry(header.producer_id, (), read_control(data[at : at + header.size]).commit)
    records = [(r.offset, r.key, r.value) for r in decode_simple(data, at)]
    return Entry(header.producer_id if header.is_transactional else None, records)
