"""The parquet sink: takes batches into files in the making, and lands them by the protocol of landing.md.

Whatever is raised here was either never taken (Retry) or dropped as a whole (Rewind, Fenced): what the
ledger has decided is the only truth, and it is published by whoever comes next.
"""

import contextlib
import socket
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from tailrace.component import ALL, Context, Membership, Problem, Scope, Totals
from tailrace.errors import Corrupt, Fenced, Halt, Retry, Rewind
from tailrace.event import EventBatch, Partition, Record
from tailrace.failpoint import failpoint
from tailrace.sinks.ledger.engine import ledger_url
from tailrace.sinks.ledger.ledger import Ledger, LedgerDown
from tailrace.sinks.ledger.model import Group, Held, SinkId
from tailrace.sinks.ledger.origins import forget, stored
from tailrace.sinks.parquet.bucket import Bucket, sort
from tailrace.sinks.parquet.columns import layout
from tailrace.sinks.parquet.flight import Flight, Landing, departing
from tailrace.sinks.parquet.machine import State
from tailrace.sinks.parquet.names import footer, group_names, join
from tailrace.sinks.parquet.open_batch import OpenBatch, OwnedGroup
from tailrace.sinks.parquet.open_files import OpenFiles
from tailrace.sinks.parquet.part import Format, Part
from tailrace.sinks.parquet.position import compare_with_group, streams_replaced
from tailrace.sinks.parquet.recover import collect_garbage, finish_decided
from tailrace.sinks.parquet.root import claim_root
from tailrace.sinks.parquet.settings import ParquetSettings, codec
from tailrace.sinks.parquet.template import parse_template
from tailrace.sinks.stores.select import Access, absolute, make_store
from tailrace.sinks.stores.store import Spoiled, Staging, StoreError
from tailrace.units import show_size

_MOST_PARTS = 4096
"""Files of one batch, after which it is committed whatever its age."""
_FIRST_RATIO = 0.25
"""Bytes of file a byte of rows, until a file of ours has told."""


class ParquetSink:
    """See `Sink`. Made from its settings and context; nothing is opened before `open`."""

    Settings = ParquetSettings

    def __init__(self, settings: ParquetSettings, context: Context) -> None:
        template = parse_template(settings.path)
        location = replace(template.location, path=absolute(template.location, template.location.path))
        self.totals = Totals()
        self.stamp = ""
        self._settings = settings
        self._context = context
        self._clock = context.clock
        self._template = replace(template, location=location)
        self._codec = codec(settings.compression)
        self._id = SinkId(context.pipeline, f"{context.agent}.{context.name}", context.instance)
        self._owner = f"{context.instance}@{socket.gethostname()}"
        spool = context.state_dir / f"{context.name}.spool"
        self._store = make_store(location, Access(context.fs, spool, settings.user, settings.timeout))
        self._files = OpenFiles(settings.memory, settings.row_group, settings.max_open_files)
        self._groups: dict[Group, OwnedGroup] = {}
        self._flights: dict[Group, Flight] = {}
        self._told: dict[Partition, int] = {}
        self._ratio = _FIRST_RATIO
        self._trouble: str | None = None
        self._lost: list[str] = []
        self._landing: Landing | None = None

    @property
    def place(self) -> str:
        """For messages: the sink and where it lands."""
        return f"{self._id.sink} ({self._store.url(self._template.location.path)})"

    # The verbs of Sink.

    def open(self) -> None:
        with self._reaching():
            if self._landing is None:
                url = ledger_url(self._settings.ledger, self._context.state_dir.parent)
                ledger = Ledger(url)
                self._landing = Landing(
                    ledger,
                    self._store,
                    self._template.location,
                    self._clock,
                    self._id.sink,
                    self._before_file,
                )
            ledger = self._landing.ledger
            ledger.open(self._context.pipeline)
            claim_root(self._store, self._template.location.path, ledger)
            self.stamp = ledger.uuid
            # Also of partitions that nobody will acquire again: their topic may be gone.
            self._lost = finish_decided(self._landing, self._id)

    def acquire(
        self, partitions: Collection[Partition] | Scope, membership: Membership | None = None
    ) -> Mapping[Partition, Record]:
        with self._reaching():
            wanted = () if isinstance(partitions, Scope) else tuple(partitions)
            groups = (
                self._opened.ledger.groups(self._id)
                if partitions is ALL
                else {Group.of(one) for one in wanted}
            )
            strangers = streams_replaced(self._opened.ledger, self._id, wanted, self._settings.on_recreate)
            for group in groups if partitions is ALL else ():
                if group in self._groups:
                    self._forget(group, self._groups[group])
            self._drop_uncommitted(wanted)
            if membership is not None:
                membership.heartbeat()
            self._own([group for group in groups if group not in self._groups], wanted, strangers)
            records: dict[Partition, Record] = {}
            for group in groups:
                mine, ledger = self._groups[group], self._opened.ledger
                of_group = [one for one in wanted if Group.of(one) == group]
                held = (
                    ledger.held(mine.ownership)
                    if partitions is ALL
                    else ledger.enroll(mine.ownership, of_group)
                )
                mine.held |= {one.partition: one for one in held}
                records |= {one.partition: one.record for one in held if one.record is not None}
            if membership is not None:
                compare_with_group(self.stamp, membership, self._held(wanted))
            return records

    def write(self, batch: EventBatch) -> None:
        with self._reaching():
            group = self._groups.get(Group.of(batch.partition))
            if group is None or batch.partition not in group.held:
                raise Corrupt(f"{self.place}: rows of {batch.partition.key}, which was not acquired")
            if group.ownership.group in self._flights:
                raise Retry(f"{self.place}: a batch of {batch.partition.name} is being committed")
            unseen = group.unseen(batch)
            if unseen is None:
                return
            self._files.make_room(unseen.nbytes, self._require_space)
            buckets = sort(
                self._template, self._settings.body, group.names.dead, unseen.rows, unseen.partition
            )
        self._take(group, unseen, buckets)

    def due(self) -> bool:
        if self._flights:
            return True
        now = self._clock.monotonic()
        return any(
            group.batch is not None and self._is_due(group.batch, now) for group in self._groups.values()
        )

    def commit(self) -> Mapping[Partition, int]:
        for key, group in self._groups.items():
            if group.batch is not None and key not in self._flights:
                self._flights[key] = departing(group)
        with self._reaching():
            for key, flight in list(self._flights.items()):
                self._ended(flight, self._opened.land(flight))
                del self._flights[key]
        told, self._told = self._told, {}
        return told

    def abort(self) -> None:
        for key, group in list(self._groups.items()):
            self._forget(key, group)
        self._told = {}

    def revoke(self, partitions: Collection[Partition], lost: bool) -> None:
        for partition in partitions:
            key = Group.of(partition)
            group = self._groups.get(key)
            if group is None:
                continue
            if key.kind == "topic":
                self._forget(key, group)
            elif group.batch is not None and partition in group.batch.progress:
                self.abort()
                raise Rewind(f"{self.place}: {partition.name} was revoked with rows that were not committed")
            else:
                group.held.pop(partition, None)

    def problems(self) -> Sequence[Problem]:
        texts = [*self._lost, *([self._trouble] if self._trouble is not None else [])]
        return [Problem(self._id.sink, text) for text in texts]

    def close(self) -> None:
        self.abort()
        self._store.close()
        if self._landing is not None:
            self._landing.ledger.close()

    # The verbs of StoredOrigins.

    def stored(self) -> Mapping[Partition, Record]:
        with self._reaching():
            return stored(self._opened.ledger, self._id)

    def forget(self, partitions: Collection[Partition]) -> None:
        with self._reaching():
            forget(self._opened.ledger, self._id, partitions)

    # What they are made of.

    @property
    def _opened(self) -> Landing:
        assert self._landing is not None, "open() comes first"
        return self._landing

    @contextlib.contextmanager
    def _reaching(self) -> Iterator[None]:
        """What the store or the ledger does not do now becomes an instruction, and a problem to be seen."""
        try:
            yield
        except Spoiled as error:
            self._trouble = self._explain(error)
            self.abort()
            raise Rewind(f"{self.place}: {self._trouble}") from error
        except OSError as error:
            self._trouble = self._explain(error)
            raise Retry(f"{self.place}: {self._trouble}") from error
        else:
            self._trouble = None

    def _explain(self, error: OSError) -> str:
        """The reason, with the room there is: most trouble of this kind is a full disk."""
        if isinstance(error, LedgerDown):
            return str(error)
        try:
            free = self._store.free_bytes()
        except OSError:
            free = None
        return f"{error}{f'; {show_size(free)} free' if free is not None else ''}"

    def _held(self, wanted: Collection[Partition]) -> list[Held]:
        return [self._groups[Group.of(one)].held[one] for one in wanted]

    def _drop_uncommitted(self, wanted: Collection[Partition]) -> None:
        """A topic-partition acquired again begins anew; files share a batch, so then all of them do."""
        for partition in wanted:
            key = Group.of(partition)
            group = self._groups.get(key)
            if group is None:
                continue
            if key.kind == "topic":
                self._forget(key, group)
            elif group.batch is not None and partition in group.batch.progress:
                self.abort()
                raise Rewind(
                    f"{self.place}: {partition.name} was acquired again with rows that were not committed"
                )

    def _own(
        self,
        fresh: Collection[Group],
        wanted: Collection[Partition],
        strangers: Mapping[Partition, list[str]],
    ) -> None:
        """ACQUIRE and RECOVER for groups that we do not hold, and for the streams that they replace."""
        topics = {Group.of(one): one.name for one in wanted}
        replaced = {
            Group("topic", stream, one.number): one.name
            for one, streams in strangers.items()
            for stream in streams
        }
        if not fresh:
            return
        owned = self._opened.ledger.acquire(self._id, {*fresh, *replaced}, self._owner)
        failpoint("landing.after_acquire")
        if lost := finish_decided(self._opened, self._id, list(owned.values())):
            raise Halt(f"{self.place}: {'; '.join(lost)}")
        for group, ownership in owned.items():
            names = group_names(self._context, group, topics.get(group) or replaced.get(group, ""))
            collect_garbage(self._opened, self._id, ownership, names.staging)
            if group in fresh:
                self._groups[group] = OwnedGroup(ownership, names, {})
        failpoint("landing.after_recover")

    def _take(self, group: OwnedGroup, incoming: EventBatch, buckets: Sequence[Bucket]) -> None:
        """From here on nothing can fail: the batch is ours as a whole."""
        batch, progress = group.extend(incoming, self._clock.monotonic())
        for bucket in buckets:
            part = batch.parts.get((bucket.directory, bucket.dead))
            if part is None:
                part = self._new_part(group, batch, bucket.directory, bucket.dead)
            self._files.add(part, bucket.rows, bucket.origin)
            count = bucket.rows.num_rows
            progress.count(*((0, count) if bucket.dead else (count, 0)))

    def _new_part(self, group: OwnedGroup, batch: OpenBatch, directory: str, dead: bool) -> Part:
        kind = group.ownership.group.kind
        form = Format(layout(kind, self._settings.body, dead), *self._codec)
        part = Part(directory, dead, form, partial(self._stage, group))
        batch.parts[directory, dead] = part
        self._files.register(part, partial(self._retire, batch))
        return part

    def _stage(self, group: OwnedGroup) -> Staging:
        where = join(self._template.location.path, group.names.staging, str(group.ownership.epoch))
        return self._store.stage(join(where, f"{uuid.uuid4().hex}.parquet"))

    def _retire(self, batch: OpenBatch, part: Part) -> None:
        """Closing is not committing: the file stays a part of its batch. May be called again."""
        if batch.parts.get((part.directory, part.dead)) is part:
            del batch.parts[part.directory, part.dead]
            batch.closed.append(part)
        part.finish(footer(self.stamp, self._id.sink, batch.id, part.dead, batch.covered()))
        part.seal()

    def _before_file(self, part: Part) -> None:
        self._require_space(part.pending)
        if not part.is_open:
            self._files.make_way()

    def _require_space(self, gathered: int) -> None:
        free = self._store.free_bytes()
        needed = self._settings.min_free + int(gathered * self._ratio)
        if free is not None and free < needed:
            raise StoreError(
                f"{show_size(needed)} must be free, to keep `min_free: {show_size(self._settings.min_free)}`"
            )

    def _is_due(self, batch: OpenBatch, now: float) -> bool:
        roll = self._settings.roll
        if now - batch.began >= roll.interval or now - batch.touched >= roll.idle:
            return True
        if len(batch.parts) + len(batch.closed) >= _MOST_PARTS:
            return True
        return any(
            part.written + part.pending * (part.ratio or self._ratio) >= roll.size
            for part in batch.all_parts()
        )

    def _ended(self, flight: Flight, state: State) -> None:
        """A flight has come to its end: what it means for the sink and for whoever called."""
        group, batch = flight.group, flight.batch
        assert group is not None and batch is not None
        if state is State.HALTED:
            raise Halt(f"{self.place}: batch {flight.id}: {flight.reason}")
        if state is not State.PUBLISHED:
            self.abort()
            if state is State.FENCED:
                raise Fenced(f"{self.place}: somebody else has acquired {group.names.label}")
            raise Rewind(f"{self.place}: the ledger's COMMIT of batch {flight.id} was lost")
        for part in batch.all_parts():
            self._files.forget(part)
            self._ratio = part.ratio or self._ratio
        self._count(flight)
        group.batch = None
        group.ownership = replace(group.ownership, sequence=group.ownership.sequence + 1)
        for partition, one in batch.progress.items():
            held = group.held[partition]
            group.held[partition] = _moved(held, one.partition, Record(one.end, one.state))
            self._told[one.partition] = one.end

    def _count(self, flight: Flight) -> None:
        for landed in flight.files:
            self.totals.files += 1
            self.totals.bytes += landed.bytes
            if landed.dead:
                self.totals.dead_letters += landed.rows
            else:
                self.totals.rows += landed.rows

    def _forget(self, key: Group, group: OwnedGroup) -> None:
        """Lets go of a group. Files that the ledger may have decided stay: the next owner publishes them."""
        flight = self._flights.pop(key, None)
        undecided = flight is None or flight.state in (State.OPEN, State.STAGED)
        for part in group.batch.all_parts() if group.batch is not None else ():
            self._files.forget(part)
            if undecided:
                part.discard()
        del self._groups[key]


def _moved(held: Held, partition: Partition, record: Record) -> Held:
    furthest = record.position if held.furthest is None else max(held.furthest, record.position)
    return replace(held, partition=partition, record=record, furthest=furthest)
