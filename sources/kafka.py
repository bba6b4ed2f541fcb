"""Topics as a source: a member of a consumer group that reads where the sinks say, never where the group
says.

The group only shares partitions out; positions come from the sinks, and the group's committed offsets are
written
for people and for fencing. Sources: KIP-98 (read_committed), KIP-345 (static members), KIP-320 (truncation).
"""

import hashlib
import threading
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from tailrace.broker.client.admin import EARLIEST, LATEST, list_offsets
from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.errors import LogTruncated, OffsetOutOfRange, UnknownTopic
from tailrace.broker.client.fetcher import Fetched, Fetcher
from tailrace.broker.client.generation import Generation
from tailrace.broker.client.group import Group, Joined, Left
from tailrace.broker.client.topics import Topic, TopicPartition
from tailrace.component import Assigned, Context, Problem, Revoked, SourceSettings
from tailrace.errors import Fenced, Finished, Halt, Retry
from tailrace.event import EventBatch, Partition, Record, Span, no_rows
from tailrace.units import Duration, Size

_HELD_BACK_AFTER = 60.0
"""Seconds that somebody's open transaction may hold rows back before it is named."""


class KafkaSourceSettings(SourceSettings):
    """Reads topics of a Kafka cluster as a member of a consumer group."""

    type: Literal["kafka"]
    topics: list[str] = Field(min_length=1, description="Topics to read.")
    group: str = Field(min_length=1, description="Consumer group that shares the partitions out.")
    bootstrap: str | None = Field(
        default=None, description="host:port,... of another cluster than the pipeline's own."
    )
    start: Literal["beginning", "end"] = Field(
        default="beginning",
        description="Where the pipeline's very first start begins; topics that appear later begin at 0.",
    )
    isolation: Literal["read_committed", "read_uncommitted"] = Field(
        default="read_committed", description="Whether rows of open and aborted transactions are seen."
    )
    assignor: Literal["range", "roundrobin"] = Field(
        default="range", description="How the group shares partitions out."
    )
    static: bool = Field(
        default=True,
        description="Keep the member's place over a restart (group.instance.id); false: rebalance each time.",
    )
    session_timeout: Duration = Field(
        default=45.0,
        ge=6,
        le=1800,
        description="Seconds without a heartbeat after which the partitions go to others.",
    )
    fetch_size: Size = Field(default=8 * 2**20, ge=1024, description="Bytes of one fetch.")
    on_gap: Literal["fail", "record"] = Field(
        default="fail",
        description="When retention deleted unread rows: stop and say which, or record the gap and go on.",
    )

    def needs_bootstrap(self) -> bool:
        return self.bootstrap is None

    def topics_read(self) -> Sequence[str]:
        return tuple(self.topics) if self.bootstrap is None else ()


@dataclass(frozen=True, slots=True)
class Place:
    """A Membership (tailrace.component): one generation of the group, in the kernel's words."""

    within: Generation

    @property
    def group(self) -> str:
        return self.within.group

    @property
    def generation(self) -> int:
        return self.within.generation

    @property
    def member_id(self) -> str:
        return self.within.member_id

    @property
    def instance_id(self) -> str | None:
        return self.within.instance_id

    def heartbeat(self) -> None:
        self.within.heartbeat()

    def offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, tuple[int, str]]:
        by_place = {TopicPartition(partition.name, partition.number): partition for partition in partitions}
        found = self.within.committed(by_place)
        return {by_place[place]: committed for place, committed in found.items()}


class KafkaSource:
    """Reads what the group gives it; a partition rests from its assignment until it is sought."""

    Settings = KafkaSourceSettings

    def __init__(self, settings: KafkaSourceSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._clock = context.clock
        self._cluster = Cluster(settings.bootstrap or context.bootstrap, clock=context.clock)
        self._fetcher = Fetcher(
            self._cluster,
            isolation=settings.isolation,
            max_bytes=settings.fetch_size,
            partition_bytes=max(settings.fetch_size // 2, 1024),
        )
        self._group = Group(
            self._cluster,
            settings.group,
            settings.topics,
            assignors=(settings.assignor,),
            instance_id=_instance_id(context) if settings.static else None,
            session_timeout=settings.session_timeout,
        )
        self._partitions: dict[TopicPartition, Partition] = {}
        self._place: Place | None = None
        self._known: frozenset[TopicPartition] = frozenset()
        """Partitions that were there at open()."""
        self._first_start: bool | None = None
        self._ends: dict[TopicPartition, int] = {}
        """Under `once`: where each partition ended at open()."""
        self._unsought: set[TopicPartition] = set()
        self._waiting: deque[EventBatch] = deque()
        """Batches without rows that a seek has made: a skipped beginning, a gap."""
        self._held_back: dict[TopicPartition, tuple[int, float]] = {}
        self._problems: dict[str, str] = {}
        self._lock = threading.Lock()

    def open(self, records: Sequence[Mapping[Partition, Record]]) -> None:
        topics = self._cluster.topics(self._settings.topics)
        self._known = frozenset(
            TopicPartition(name, number)
            for name, topic in topics.items()
            for number in range(len(topic.partitions))
        )
        self._missing(name for name in self._settings.topics if name not in topics)
        if self._context.once:
            isolation = self._settings.isolation
            self._ends = dict(list_offsets(self._cluster, self._known, LATEST, isolation=isolation))

    def read(self, timeout: float) -> EventBatch | Assigned | Revoked | None:
        if self._context.once and not self._known:
            raise Finished("none of its topics exists")
        if self._waiting:
            return self._waiting.popleft()
        change = self._group.poll_membership(timeout if self._place is None else 0.0)
        if isinstance(change, Joined):
            return self._joined(change)
        if isinstance(change, Left):
            return self._left(change)
        if self._place is None:
            return None
        self._finish_when_read()
        try:
            fetched = self._fetcher.poll(timeout)
        except OffsetOutOfRange as error:
            return self._out_of_range(error)
        except LogTruncated as error:
            raise Halt(
                f"{error}: rows that were read are gone from the log; nothing was read past them"
            ) from error
        except UnknownTopic as error:
            return self._topic_gone(error)
        if fetched is None:
            self._look_at_transactions()
            return None
        return self._batch(fetched)

    def seek(self, partition: Partition, record: Record | None) -> None:
        place = TopicPartition(partition.name, partition.number)
        self._waiting = deque(batch for batch in self._waiting if batch.partition != partition)
        offset = self._first_offset(partition, place) if record is None else record.position
        self._fetcher.seek(place, offset, topic_id=partition.id if ":" not in partition.id else None)
        self._unsought.discard(place)

    def committed(self, positions: Mapping[Partition, int], stamp: str) -> None:
        """Advisory: it makes the lag visible to Kafka's tools, and tells a ledger that was lost."""
        if self._place is None:
            return
        offsets = {
            TopicPartition(partition.name, partition.number): (position, stamp)
            for partition, position in positions.items()
            if self._partitions.get(TopicPartition(partition.name, partition.number)) == partition
        }
        try:
            if offsets:
                self._place.within.commit(offsets)
        except (Retry, Fenced) as error:
            self._say("group", f"the group's offsets were not committed: {error}")
        else:
            self._say("group", None)

    def lag(self) -> int | None:
        return sum(self._fetcher.lag().values())

    def problems(self) -> Sequence[Problem]:
        with self._lock:
            return [Problem(place, text) for place, text in self._problems.items()]

    def close(self) -> None:
        self._group.close()
        self._fetcher.close()
        self._cluster.close()

    def _joined(self, joined: Joined) -> Assigned:
        self._place = Place(joined.generation)
        topics = self._cluster.patiently(lambda: self._cluster.topics(self._settings.topics))
        self._partitions = {
            place: Partition("topic", self._id_of(topics[place.topic]), place.partition, place.topic)
            for place in joined.partitions
            if place.topic in topics  # deleted since: the group's leader notices, too
        }
        self._unsought = set(self._partitions)
        self._missing(name for name in self._settings.topics if name not in topics)
        return Assigned(tuple(self._partitions.values()), self._place)

    def _left(self, left: Left) -> Revoked:
        gone = tuple(self._partitions[place] for place in left.partitions if place in self._partitions)
        self._fetcher.drop(left.partitions)
        for place in left.partitions:
            self._partitions.pop(place, None)
            self._held_back.pop(place, None)
        self._waiting = deque(batch for batch in self._waiting if batch.partition not in gone)
        if left.lost:
            self._place = None
        return Revoked(gone, left.lost)

    def _id_of(self, topic: Topic) -> str:
        return topic.id or f"{self._cluster.cluster_id}:{topic.name}"

    def _batch(self, fetched: Fetched) -> EventBatch | None:
        partition = self._partitions.get(fetched.partition)
        if partition is None:
            return None
        self._held_back.pop(fetched.partition, None)
        return EventBatch(fetched.rows, partition, Span(fetched.start, fetched.end))

    def _finish_when_read(self) -> None:
        if not self._context.once or self._unsought or self._waiting:
            return
        positions = self._fetcher.positions()
        if all(positions.get(place, -1) >= self._ends.get(place, 0) for place in self._partitions):
            raise Finished("read up to the end that the topics had at the start")

    def _first_offset(self, partition: Partition, place: TopicPartition) -> int:
        """Where a partition that no sink knows begins."""
        first = list_offsets(self._cluster, [place], EARLIEST)[place]
        if self._settings.start == "beginning" or place not in self._known or not self._is_first_start():
            return first
        end = list_offsets(self._cluster, [place], LATEST, isolation=self._settings.isolation)[place]
        if end > first:
            # Committed without rows, so that the next start goes on from here and skips nothing.
            self._waiting.append(EventBatch(no_rows(), partition, Span(first, end)))
        return end

    def _is_first_start(self) -> bool:
        if self._first_start is None:
            assert self._place is not None
            self._first_start = not self._place.within.committed(self._known)
        return self._first_start

    def _out_of_range(self, error: OffsetOutOfRange) -> EventBatch | None:
        partition = self._partitions[error.partition]
        if error.offset > error.log_end:
            raise Halt(
                f"{error.partition}: offset {error.offset} is behind the log's end {error.log_end}: the topic"
                " lost rows that were read; nothing was read past them"
            ) from error
        if self._settings.on_gap == "fail":
            raise Halt(
                f"{error.partition}: retention has deleted offsets {error.offset} to {error.log_start - 1}"
                " before they were read; `on_gap: record` on the source writes that down and goes on"
            ) from error
        self._fetcher.seek(error.partition, error.log_start, topic_id=partition.id)
        return EventBatch(no_rows(), partition, Span(error.offset, error.log_start), gap=True)

    def _topic_gone(self, error: UnknownTopic) -> Revoked | None:
        """Its rows can come no more; the group's leader notices the new topic, if one is made, and shares
        it out.
        """
        self._say(error.topic, str(error))
        places = [place for place in self._partitions if place.topic == error.topic]
        self._fetcher.drop(places)
        gone = tuple(self._partitions.pop(place) for place in places)
        self._waiting = deque(batch for batch in self._waiting if batch.partition not in gone)
        return Revoked(gone) if gone else None

    def _look_at_transactions(self) -> None:
        """Says which rows wait for long: only the transaction's owner, or its time-out, can end it."""
        now = self._clock.monotonic()
        held_back = self._fetcher.held_back()
        self._held_back = {
            place: (offset, since if offset == before else now)
            for place, offset in held_back.items()
            for before, since in (self._held_back.get(place, (offset, now)),)
        }
        for place, (offset, since) in self._held_back.items():
            late = now - since > _HELD_BACK_AFTER
            self._say(
                str(place),
                f"rows from offset {offset} on wait for an open transaction to end" if late else None,
            )

    def _missing(self, names: Iterable[str]) -> None:
        for name in self._settings.topics:
            self._say(name, None)
        for name in names:
            self._say(name, f"topic {name!r} does not exist; it is read from its first row once it does")

    def _say(self, place: str, text: str | None) -> None:
        with self._lock:
            if text is None:
                self._problems.pop(place, None)
            else:
                self._problems[place] = text


def _instance_id(context: Context) -> str:
    """group.instance.id: the same over restarts, another for every source of every instance."""
    name = f"{context.pipeline}.{context.agent}.{context.name}"
    return f"tailrace-{hashlib.sha256(f'{name}.{context.instance}'.encode()).hexdigest()[:24]}"
