"""Rows into a topic, and their origins into `__tailrace_positions`, in one Kafka transaction.

What docs/design/delivery.md says of the Kafka sink is here: InitProducerId before the positions are read,
positions in the
rows' transaction, an EndTxn repeated until its outcome is definite. Sources: KIP-98, KIP-447.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field, model_validator

from tailrace.broker.client.admin import create_topic, ensure_compacted
from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.errors import RowTooLarge
from tailrace.broker.client.producer import Producer
from tailrace.broker.client.topics import TopicPartition
from tailrace.component import Context, Membership, Problem, Scope, SinkSettings, Totals
from tailrace.errors import Corrupt, Rewind
from tailrace.event import EventBatch, Partition, Record
from tailrace.failpoint import failpoint
from tailrace.sinks import kafka_positions as positions
from tailrace.sinks.kafka_partitions import Share, Spread, dead_letter, share_out
from tailrace.units import Duration, Size

_DEAD_MAX_MESSAGE = 16 * 2**20
_FORGET_AFTER_MS = 7 * 24 * 3600 * 1000


class KafkaSinkSettings(SinkSettings):
    """Writes rows to a Kafka topic. Exactly-once by default: rows and file positions are one transaction."""

    type: Literal["kafka"]
    topic: str = Field(
        pattern=r"^[a-zA-Z0-9._-]{1,249}$", description="Topic to write to; made when it is not there."
    )
    bootstrap: str | None = Field(
        default=None, description="host:port,... of another cluster than the pipeline's own."
    )
    transactional: bool = Field(
        default=True, description="Rows and origins in one transaction; false: at-least-once, with `acks`."
    )
    acks: Literal["all", 1, 0] = Field(
        default="all",
        description="What answers for a row without transactions: all (on disk), 1 (in memory), 0.",
    )
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = Field(
        default="none", description="Codec of the record batches."
    )
    linger: Duration = Field(
        default=0.2, description="Seconds from the first row to the commit of its transaction."
    )
    transaction_size: Size = Field(
        default=64 * 2**20, ge=1, description="Bytes of rows at which a transaction commits before `linger`."
    )
    transaction_timeout: Duration = Field(
        default=60.0, ge=1, description="Seconds after which the broker aborts an open transaction."
    )
    batch_size: Size = Field(default=1_000_000, ge=1024, description="Bytes a record batch is filled to.")
    partition_by: str = Field(
        default="origin",
        pattern=r"^(origin|key|round_robin|header:.+)$",
        description="origin (rows of one file stay in order), key, header:NAME or round_robin.",
    )
    too_large: Literal["dead_letter", "stop"] = Field(
        default="dead_letter",
        description="A row over the topic's max.message.bytes goes to `<topic>.dead`, or stops the agent.",
    )

    @model_validator(mode="after")
    def _acks_without_transactions(self) -> "KafkaSinkSettings":
        if self.transactional and self.acks != "all":
            raise ValueError("acks: a transaction needs acks: all; say transactional: false for less")
        return self

    def keeps_origins(self) -> bool:
        return self.transactional

    def needs_bootstrap(self) -> bool:
        return self.bootstrap is None

    def topics_written(self) -> Sequence[str]:
        return (self.topic,) if self.bootstrap is None else ()

    def weakness(self) -> str | None:
        if self.transactional:
            return None
        return "transactional: false stores positions after the rows: a crash in between sends rows again"


@dataclass(slots=True)
class _Transaction:
    """What is written and not committed. begun: monotonic seconds of its first row, or None before it."""

    begun: float | None = None
    uncommitted: dict[Partition, Record] = field(default_factory=dict)
    departed: dict[Partition, positions.Stored] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    positions_sent: bool = False
    writing: EventBatch | None = None
    shares: list[Share] = field(default_factory=list)
    """What is left to send of `writing`."""


class KafkaSink:
    """One transaction at a time: begun by the first row after a commit, ended by linger or size."""

    Settings = KafkaSinkSettings
    stamp = ""

    def __init__(self, settings: KafkaSinkSettings, context: Context) -> None:
        self.totals = Totals()
        self._settings = settings
        self._context = context
        self._clock = context.clock
        self._owner = positions.Owner.of(context)
        self._cluster = Cluster(settings.bootstrap or context.bootstrap, clock=context.clock)
        transactional_id = f"tailrace.{context.pipeline}.{context.agent}.{context.instance}.{context.name}"
        self._producer = Producer(
            self._cluster,
            acks=settings.acks,
            codec=settings.compression,
            transactional_id=transactional_id if settings.transactional else None,
            transaction_timeout=settings.transaction_timeout,
            batch_bytes=settings.batch_size,
        )
        self._linger = min(settings.linger, settings.transaction_timeout / 3)
        self._spread = Spread(settings.partition_by)
        self._stored: dict[Partition, positions.Stored] | None = None
        """What is committed, as read after InitProducerId; None when it has to be read (again)."""
        self._membership: Membership | None = None
        self._open = _Transaction()

    def open(self) -> None:
        if self._settings.topic not in self._cluster.topics((self._settings.topic,)):
            create_topic(self._cluster, self._settings.topic)
        if self._settings.transactional:
            ensure_compacted(self._cluster, positions.TOPIC)

    def acquire(
        self, partitions: Collection[Partition] | Scope, membership: Membership | None = None
    ) -> Mapping[Partition, Record]:
        if self._stored is None:
            self._open = _Transaction()
            self._producer.init_transactions()
            failpoint("kafka_sink.initialised")
            self._stored = positions.read_positions(self._cluster, self._owner)
        if isinstance(partitions, Scope):
            return {partition: stored.record for partition, stored in self._stored.items()}
        if any(partition in self._open.uncommitted for partition in partitions):
            self.abort()
            raise Rewind("a partition with uncommitted rows was assigned again")
        self._membership = membership
        mine = self._grouped(partitions)
        records = {p: self._stored[p].record for p in partitions if p in self._stored and p not in mine}
        if mine and membership is not None:
            offsets = membership.offsets(mine)
            records |= {p: Record(offset) for p, (offset, _) in offsets.items()}
        for partition in partitions:
            if (stored := self._stored.get(partition)) is not None and stored.gone is not None:
                self._stored[partition] = positions.gone_at(stored, None)
        return records

    def write(self, batch: EventBatch) -> None:
        if self._open.writing is not batch:
            self._begin()
            count = len(self._cluster.topic(self._settings.topic).partitions)
            self._open.shares = share_out(batch, self._settings.topic, self._spread, count)
            self._open.writing = batch
        # A Retry comes back with the same batch: what was sent of it is not sent again.
        while self._open.shares:
            self._send(self._open.shares[0])
            self._open.shares.pop(0)
        self._open.writing = None
        self._open.uncommitted[batch.partition] = Record(batch.span.end, batch.state)
        self._open.totals.rows += batch.num_rows
        self._open.totals.bytes += batch.nbytes
        failpoint("kafka_sink.sent")

    def due(self) -> bool:
        if self._open.begun is None:
            return False
        age = self._clock.monotonic() - self._open.begun
        return age >= self._linger or self._open.totals.bytes >= self._settings.transaction_size

    def commit(self) -> Mapping[Partition, int]:
        if self._open.begun is None:
            return {}
        if self._settings.transactional:
            self._commit_transaction()
        else:
            self._producer.flush()
        committed = {partition: record.position for partition, record in self._open.uncommitted.items()}
        if self._stored is not None:
            for partition, record in self._open.uncommitted.items():
                self._stored[partition] = positions.Stored(partition, record)
        self.totals.rows += self._open.totals.rows
        self.totals.bytes += self._open.totals.bytes
        self.totals.dead_letters += self._open.totals.dead_letters
        self._open = _Transaction()
        return committed

    def abort(self) -> None:
        # The next acquire calls init_transactions, which settles what is open, and reads the positions again.
        self._open = _Transaction()
        self._stored = None

    def revoke(self, partitions: Collection[Partition], lost: bool) -> None:
        if any(partition in self._open.uncommitted for partition in partitions):
            self.abort()
            raise Rewind("partitions with uncommitted rows were lost to another member of the group")
        if self._stored is None or lost:
            return
        now = self._clock.now_ms()
        for partition in partitions:
            if partition.kind == "file" and (stored := self._stored.get(partition)) is not None:
                self._open.departed[partition] = self._stored[partition] = positions.gone_at(stored, now)

    def problems(self) -> Sequence[Problem]:
        return ()

    def close(self) -> None:
        self._producer.close()
        self._cluster.close()

    def _begin(self) -> None:
        if self._open.begun is not None:
            return
        if self._settings.transactional:
            if self._stored is None:
                raise Rewind("the positions were not read since the last transaction was lost")
            self._producer.begin()
        failpoint("kafka_sink.begun")
        self._open.begun = self._clock.monotonic()

    def _send(self, share: Share) -> None:
        try:
            self._producer.send(share.place, share.rows)
        except RowTooLarge as error:
            if self._settings.too_large == "stop":
                raise Corrupt(f"{share.origin.name or share.origin.key}: {error}; see `too_large`") from error
            self._send_around(share, error)

    def _send_around(self, share: Share, error: RowTooLarge) -> None:
        """The row that does not fit goes to the dead-letter topic; the shares before and behind it as
        they are.
        """
        dead = f"{self._settings.topic}.dead"
        if share.place.topic == dead:
            raise Corrupt(
                f"{error}: it does not fit into {dead!r} either; raise that topic's max.message.bytes"
            )
        if dead not in self._cluster.topics((dead,)):
            create_topic(self._cluster, dead, configs={"max.message.bytes": str(_DEAD_MAX_MESSAGE)})
        rows = share.rows
        letter = dead_letter(rows.slice(error.row, 1), share.origin, str(error))
        parts = [
            Share(share.place, rows.slice(0, error.row), share.origin),
            Share(TopicPartition(dead, 0), letter, share.origin),
            Share(share.place, rows.slice(error.row + 1), share.origin),
        ]
        # In place of the share that is being sent; write() takes this first one off again.
        self._open.shares[1:1] = [part for part in parts if part.rows.num_rows]
        self._open.totals.dead_letters += 1
        self._open.totals.rows -= 1

    def _commit_transaction(self) -> None:
        if not self._open.positions_sent:
            failpoint("kafka_sink.before_positions")
            grouped = self._grouped(self._open.uncommitted)
            entries = self._entries(grouped)
            if entries:
                place = positions.partition_for(self._cluster, self._owner)
                self._producer.send(place, positions.rows_of(entries, self._clock.now_ms()))
            if grouped and self._membership is not None:
                offsets = {
                    TopicPartition(p.name, p.number): (self._open.uncommitted[p].position, "")
                    for p in grouped
                }
                self._producer.send_offsets(self._membership, offsets)
            self._open.positions_sent = True
        failpoint("kafka_sink.before_end")
        self._producer.commit()
        failpoint("kafka_sink.ended")

    def _entries(self, grouped: Collection[Partition]) -> list[tuple[bytes, bytes | None]]:
        assert self._stored is not None
        moved = {p: record for p, record in self._open.uncommitted.items() if p not in grouped}
        writes: dict[Partition, positions.Stored | None] = {**self._open.departed}
        writes |= positions.changed(moved, self._stored)
        old = self._clock.now_ms() - _FORGET_AFTER_MS
        for partition, stored in list(self._stored.items()):
            if stored.gone is not None and stored.gone < old and partition not in moved:
                writes[partition] = None
                del self._stored[partition]
        return [positions.encode(self._owner, partition, stored) for partition, stored in writes.items()]

    def _grouped(self, partitions: Collection[Partition]) -> list[Partition]:
        """Those whose offsets are the group's own and go into the transaction: topics of this very
        cluster.
        """
        return [
            partition
            for partition in partitions
            if partition.kind == "topic"
            and (topic := self._cluster.topics((partition.name,)).get(partition.name)) is not None
            and topic.id == partition.id
        ]
