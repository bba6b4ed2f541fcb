"""Rows into a topic, and their origins into `__tailrace_positions`, in one Kafka transaction.

What docs/design/delivery.md says of the Kafka sink is here: InitProducerId before the positions are read,
positions in the rows' transaction, an EndTxn repeated until its outcome is definite. Sources: KIP-98,
KIP-447.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tailrace.broker.client.admin import create_topic, ensure_compacted
from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.errors import RowTooLarge
from tailrace.broker.client.producer import Producer
from tailrace.broker.client.topics import TopicPartition
from tailrace.component import Context, Membership, Problem, Scope, Totals
from tailrace.errors import Corrupt, Fenced, Retry, Rewind
from tailrace.event import EventBatch, Partition, Record
from tailrace.failpoint import failpoint
from tailrace.sinks import kafka_positions as positions
from tailrace.sinks.kafka_partitions import Share, Spread, dead_letter, share_out
from tailrace.sinks.kafka_settings import KafkaSinkSettings

_DEAD_MAX_MESSAGE = 16 * 2**20
_FORGET_AFTER_MS = 7 * 24 * 3600 * 1000
_FORGET_EVERY = 60.0
"""Seconds between two looks for partitions that are gone for long."""


@dataclass(slots=True)
class _Transaction:
    """What is written and not committed. begun: monotonic seconds of its first row, or None before it."""

    begun: float | None = None
    uncommitted: dict[Partition, Record] = field(default_factory=dict)
    departed: dict[Partition, positions.Stored] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    writing: EventBatch | None = None
    shares: list[Share] = field(default_factory=list)
    """What is left to send of `writing`."""
    entries: list[tuple[TopicPartition, tuple[bytes, bytes | None]]] | None = None
    """Positions to send; None before they are known."""
    fences: list[tuple[Membership, dict[TopicPartition, tuple[int, str]]]] | None = None
    """Groups' offsets to send; None before they are known."""


class KafkaSink:
    """One transaction at a time: begun by the first row after a commit, ended by linger or size."""

    Settings = KafkaSinkSettings
    stamp = ""

    def __init__(self, settings: KafkaSinkSettings, context: Context) -> None:
        self.totals = Totals()
        self._settings = settings
        self._clock = context.clock
        self._owner = positions.Owner.of(context)
        self._cluster = Cluster(settings.bootstrap or context.bootstrap, clock=context.clock)
        self._transactional_id = ".".join(
            ("tailrace", context.pipeline, context.agent, context.instance, context.name)
        )
        self._producer = self._new_producer()
        self._linger = min(settings.linger, settings.transaction_timeout / 3)
        self._spread = Spread(settings.partition_by)
        self._stored: dict[Partition, positions.Stored] | None = None
        """What is committed, as read after InitProducerId; None when it has to be read (again)."""
        self._groups: dict[Partition, Membership] = {}
        """Through which group partitions of this very cluster came: its generation fences their rows."""
        self._has_rival = False
        """Fenced, and not initialised since: the rival is not fenced in turn before the runner says so."""
        self._forget_at = 0.0
        self._open = _Transaction()

    def open(self) -> None:
        topic = self._settings.topic
        if topic not in self._cluster.topics((topic,)):
            create_topic(self._cluster, topic, partitions=self._settings.partitions or -1)
        if self._settings.transactional:
            ensure_compacted(self._cluster, positions.TOPIC, partitions=positions.PARTITIONS)

    def acquire(
        self, partitions: Collection[Partition] | Scope, membership: Membership | None = None
    ) -> Mapping[Partition, Record]:
        stored = self._initialised()
        if isinstance(partitions, Scope):
            return {partition: entry.record for partition, entry in stored.items()}
        if any(partition in self._open.uncommitted for partition in partitions):
            self.abort()
            raise Rewind("a partition with uncommitted rows was assigned again")
        self._take_from_groups([p for p in partitions if p.kind == "topic"], membership)
        for partition in partitions:
            if (entry := stored.get(partition)) is not None and entry.gone is not None:
                stored[partition] = self._open.departed[partition] = entry.gone_since(None)
        return {partition: stored[partition].record for partition in partitions if partition in stored}

    def write(self, batch: EventBatch) -> None:
        with self._own_faults_are_rewinds():
            if self._open.writing is not batch:
                self._begin(batch.partition)
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

    def due(self) -> bool:
        if self._open.begun is None:
            return False
        age = self._clock.monotonic() - self._open.begun
        return age >= self._linger or self._open.totals.bytes >= self._settings.transaction_size

    def commit(self) -> Mapping[Partition, int]:
        if self._open.begun is None:
            return {}
        with self._own_faults_are_rewinds():
            if self._settings.transactional:
                self._commit_transaction()
            else:
                self._producer.flush()
        done, self._open = self._open, _Transaction()
        if self._stored is not None:
            for partition, record in done.uncommitted.items():
                self._stored[partition] = positions.Stored(partition, record)
        self.totals.rows += done.totals.rows
        self.totals.bytes += done.totals.bytes
        self.totals.dead_letters += done.totals.dead_letters
        return {partition: record.position for partition, record in done.uncommitted.items()}

    def abort(self) -> None:
        self._open = _Transaction()
        self._stored = None
        if not self._settings.transactional:
            self._producer.close()
            self._producer = self._new_producer()
        elif self._producer.in_transaction and not self._has_rival:
            # What is open would hold readers back until its time-out, or until the next acquire.
            try:
                self._producer.init_transactions()
            except (Retry, Rewind, Fenced):
                pass  # acquire does the same, until it succeeds

    def revoke(self, partitions: Collection[Partition], lost: bool) -> None:
        if any(partition in self._open.uncommitted for partition in partitions):
            self.abort()
            raise Rewind("partitions with uncommitted rows were lost to another member of the group")
        for partition in partitions:
            self._groups.pop(partition, None)
        if self._stored is None or lost:
            return
        now = self._clock.now_ms()
        for partition in partitions:
            if partition.kind == "file" and (stored := self._stored.get(partition)) is not None:
                self._open.departed[partition] = self._stored[partition] = stored.gone_since(now)

    def problems(self) -> Sequence[Problem]:
        return ()

    def close(self) -> None:
        self._producer.close()
        self._cluster.close()

    def stored(self) -> Mapping[Partition, Record]:
        """As StoredOrigins: what is committed, read without a producer id."""
        found = positions.read_positions(self._cluster, self._owner)
        found |= positions.read_positions(self._cluster, self._owner.shared)
        return {partition: entry.record for partition, entry in found.items()}

    def forget(self, partitions: Collection[Partition]) -> None:
        """As StoredOrigins: a tombstone for each."""
        self._producer.init_transactions()
        self._producer.begin()
        self._send_positions([self._entry(partition, None) for partition in partitions])
        self._cluster.patiently(self._producer.commit)

    def _new_producer(self) -> Producer:
        settings = self._settings
        return Producer(
            self._cluster,
            acks=settings.acks,
            codec=settings.compression,
            transactional_id=self._transactional_id if settings.transactional else None,
            transaction_timeout=settings.transaction_timeout,
            batch_bytes=settings.batch_size,
        )

    def _initialised(self) -> dict[Partition, positions.Stored]:
        if self._stored is None:
            self._open = _Transaction()
            self._producer.init_transactions()
            self._has_rival = False
            failpoint("kafka_sink.initialised")
            self._stored = positions.read_positions(self._cluster, self._owner)
        return self._stored

    def _take_from_groups(self, partitions: Sequence[Partition], membership: Membership | None) -> None:
        """Reads what was stored of topics' partitions, by whichever instance had them before this one."""
        if not partitions:
            return
        shared = positions.read_positions(self._cluster, self._owner.shared)
        here = self._cluster.topics({partition.name for partition in partitions})
        stored = self._initialised()
        for partition in partitions:
            self._groups.pop(partition, None)
            stored.pop(partition, None)
            if partition in shared:
                stored[partition] = shared[partition]
            topic = here.get(partition.name)
            if membership is None or topic is None:
                continue
            if partition.id == (topic.id or f"{self._cluster.cluster_id}:{topic.name}"):
                self._groups[partition] = membership

    def _begin(self, origin: Partition) -> None:
        if self._open.begun is not None:
            return
        if self._settings.transactional:
            if self._stored is None:
                raise Rewind("the positions were not read since the last transaction was lost")
            self._producer.begin([self._place(origin)])
        failpoint("kafka_sink.begun")
        self._open.begun = self._clock.monotonic()

    def _send(self, share: Share) -> None:
        try:
            self._producer.send(share.place, share.rows)
        except RowTooLarge as error:
            if self._settings.too_large == "stop":
                raise Corrupt(f"{share.origin.name or share.origin.key}: {error}; see `too_large`") from error
            self._send_around(share, error)
        failpoint("kafka_sink.sent")

    def _send_around(self, share: Share, error: RowTooLarge) -> None:
        """The row that does not fit goes to the dead-letter topic; the rows before and behind it as
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
        """Each step is done once, however often commit() is called over Retry."""
        now = self._open
        if now.entries is None:
            now.entries = self._entries()
            failpoint("kafka_sink.before_positions")
        if now.entries:
            self._send_positions(now.entries)
            now.entries = []
        # Answered for before the group's coordinator is asked: so a successor, whose generation is newer,
        # finds these positions in the log and waits for what becomes of them, or else we are refused.
        self._producer.flush()
        failpoint("kafka_sink.positions_sent")
        if now.fences is None:
            now.fences = self._fences()
        while now.fences:
            self._producer.send_offsets(*now.fences[0])
            now.fences.pop(0)
        failpoint("kafka_sink.before_end")
        self._producer.commit()
        failpoint("kafka_sink.ended")

    def _entries(self) -> list[tuple[TopicPartition, tuple[bytes, bytes | None]]]:
        assert self._stored is not None
        writes: dict[Partition, positions.Stored | None] = {**self._open.departed}
        writes |= positions.changed(self._open.uncommitted, self._stored)
        for partition in self._long_gone():
            if partition not in self._open.uncommitted:
                writes[partition] = None
                del self._stored[partition]
        return [self._entry(partition, stored) for partition, stored in writes.items()]

    def _entry(
        self, partition: Partition, stored: positions.Stored | None
    ) -> tuple[TopicPartition, tuple[bytes, bytes | None]]:
        return self._place(partition), positions.encode(self._owner, partition, stored)

    def _place(self, origin: Partition) -> TopicPartition:
        """Where the position of `origin` goes."""
        return positions.place_of(self._cluster, self._owner.keeper(origin))

    def _long_gone(self) -> list[Partition]:
        now = self._clock.monotonic()
        if now < self._forget_at or self._stored is None:
            return []
        self._forget_at = now + _FORGET_EVERY
        limit = self._clock.now_ms() - _FORGET_AFTER_MS
        return [p for p, stored in self._stored.items() if stored.gone is not None and stored.gone < limit]

    def _send_positions(self, entries: list[tuple[TopicPartition, tuple[bytes, bytes | None]]]) -> None:
        by_place: dict[TopicPartition, list[tuple[bytes, bytes | None]]] = defaultdict(list)
        for place, entry in entries:
            by_place[place].append(entry)
        for place, of_place in by_place.items():
            self._producer.send(place, positions.rows_of(of_place, self._clock.now_ms()))

    def _fences(self) -> list[tuple[Membership, dict[TopicPartition, tuple[int, str]]]]:
        """The offsets that go into the transaction for their group's generation to be checked (KIP-447)."""
        by_group: dict[int, tuple[Membership, dict[TopicPartition, tuple[int, str]]]] = {}
        for partition, record in self._open.uncommitted.items():
            membership = self._groups.get(partition)
            if membership is not None:
                offsets = by_group.setdefault(id(membership), (membership, {}))[1]
                offsets[TopicPartition(partition.name, partition.number)] = (record.position, "")
        return list(by_group.values())

    @contextmanager
    def _own_faults_are_rewinds(self) -> Iterator[None]:
        """A transaction that stood open past its time-out was ended by the broker, not by a rival; and a row
        that came to be too large on its way goes round by the dead letters when it comes again.
        """
        try:
            yield
        except RowTooLarge as error:
            raise Rewind(f"the topic takes less than it did: {error}") from error
        except Fenced as error:
            begun = self._open.begun
            if begun is None or self._clock.monotonic() - begun < self._settings.transaction_timeout:
                self._has_rival = True
                raise
            raise Rewind(f"the transaction ran past its time-out: {error}") from error
