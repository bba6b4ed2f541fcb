"""Topics as a source: a member of a consumer group that reads where the sinks say, not where the group does.

The group only shares partitions out; positions come from the sinks, and the group's committed offsets are
written for people. Sources: KIP-98 (read_committed), KIP-345 (static members), KIP-320 (truncation).
"""

import hashlib
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

from tailrace.broker.client.admin import EARLIEST, LATEST, list_offsets
from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.errors import LogTruncated, OffsetOutOfRange, Refused, UnknownTopic
from tailrace.broker.client.fetcher import Fetched, Fetcher
from tailrace.broker.client.group import Group, Joined, Left
from tailrace.broker.client.peek import header_at
from tailrace.broker.client.topics import Topic, TopicPartition
from tailrace.component import Assigned, Context, Problem, Revoked
from tailrace.errors import Corrupt, Fenced, Finished, Halt, Retry
from tailrace.event import EventBatch, Partition, Record, Span, no_rows
from tailrace.sources.kafka_holdups import Holdups
from tailrace.sources.kafka_place import Place, place_of
from tailrace.sources.kafka_settings import KafkaSourceSettings

_LOOK_FOR_GONE_EVERY = 1.0
"""Seconds between two looks whether a topic that went is there again."""


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
        self._holdups = Holdups(self._fetcher.held_back, self._producer_at, self._say)
        self._partitions: dict[TopicPartition, Partition] = {}
        self._place: Place | None = None
        self._joined: Joined | None = None
        """A place whose partitions were not answered yet."""
        self._leaving = False
        """Left was answered: the place is given up with the next read()."""
        self._gone: dict[TopicPartition, Partition] = {}
        """Partitions of this place whose topic went away."""
        self._look_for_gone_at = 0.0
        self._known: frozenset[TopicPartition] = frozenset()
        """Partitions that were there at open()."""
        self._first_start: bool | None = None
        self._ends: dict[TopicPartition, int] = {}
        """Under `once`: where each partition ended at open()."""
        self._unsought: set[TopicPartition] = set()
        self._waiting: deque[EventBatch] = deque()
        """Batches without rows that a seek has made: a skipped beginning."""
        self._problems: dict[str, str] = {}
        self._lock = threading.Lock()

    def open(self, records: Sequence[Mapping[Partition, Record]]) -> None:
        topics = self._cluster.topics(self._settings.topics)
        self._known = frozenset(
            TopicPartition(name, number)
            for name, topic in topics.items()
            for number in range(len(topic.partitions))
        )
        self._note_missing(topics)
        if self._context.once:
            # The high watermark, whatever the isolation: open transactions are waited for.
            self._ends = dict(list_offsets(self._cluster, self._known, LATEST))

    def read(self, timeout: float) -> EventBatch | Assigned | Revoked | None:
        if self._context.once and not self._known:
            raise Finished("none of its topics exists")
        if self._waiting:
            return self._waiting.popleft()
        if (change := self._membership_change(timeout)) is not None or self._place is None:
            return change
        if (again := self._gone_that_came_back()) is not None:
            return again
        self._finish_when_read()
        self._holdups.look(self._clock.monotonic())
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
        return None if fetched is None else self._batch(fetched)

    def seek(self, partition: Partition, record: Record | None) -> None:
        place = place_of(partition)
        if self._partitions.get(place) != partition:
            return
        self._waiting = deque(batch for batch in self._waiting if batch.partition != partition)
        offset = self._first_offset(partition) if record is None else record.position
        self._fetcher.seek(place, offset, topic_id=_topic_id(partition))
        self._holdups.forget(place)
        self._unsought.discard(place)

    def committed(self, positions: Mapping[Partition, int], stamp: str) -> None:
        """Advisory: it makes the lag visible to Kafka's tools, and tells a ledger that was lost."""
        mine = {p: position for p, position in positions.items() if self._partitions.get(place_of(p)) == p}
        if self._place is None or not mine:
            return
        try:
            self._place.commit(mine, stamp)
        except Retry as error:
            self._say("group", f"the group's offsets were not committed: {error}")
            raise
        except (Fenced, Refused) as error:
            self._say("group", f"the group's offsets were not committed: {error}")
        else:
            self._say("group", None)

    def lag(self) -> int | None:
        return None if self._place is None else sum(self._fetcher.lag().values())

    def problems(self) -> Sequence[Problem]:
        with self._lock:
            return [Problem(place, text) for place, text in self._problems.items()]

    def close(self) -> None:
        self._group.close()
        self._fetcher.close()
        self._cluster.close()

    def _membership_change(self, timeout: float) -> Assigned | Revoked | None:
        if self._leaving:
            self._leaving, self._place = False, None
        if self._joined is None:
            change = self._group.poll_membership(0.0 if self._place is not None else timeout)
            if isinstance(change, Left):
                return self._leave(change)
            self._joined = change
        if self._joined is None:
            return None
        # Kept until all of this went well: a Retry of these questions must not lose the place.
        assigned = self._take_place(self._joined)
        self._joined = None
        return assigned

    def _take_place(self, joined: Joined) -> Assigned:
        topics = self._cluster.patiently(lambda: self._cluster.topics(self._settings.topics))
        self._note_missing(topics)
        self._place = Place(joined.generation)
        self._partitions, self._gone = {}, {}
        for place in joined.partitions:
            topic = topics.get(place.topic)
            if topic is not None:
                self._partitions[place] = self._partition(place, topic)
            else:
                self._gone[place] = Partition("topic", "", place.partition, place.topic)
        self._unsought = set(self._partitions)
        return Assigned(tuple(self._partitions.values()), self._place)

    def _leave(self, left: Left) -> Revoked:
        if left.lost:
            self._place = None
        else:
            self._leaving = True
        self._gone = {}
        return Revoked(self._give_up(left.partitions), left.lost)

    def _give_up(self, places: Iterable[TopicPartition]) -> tuple[Partition, ...]:
        gone = tuple(self._partitions.pop(place) for place in places if place in self._partitions)
        dropped = [place_of(partition) for partition in gone]
        self._fetcher.drop(dropped)
        self._unsought.difference_update(dropped)
        for place in dropped:
            self._holdups.forget(place)
        self._waiting = deque(batch for batch in self._waiting if batch.partition not in gone)
        return gone

    def _partition(self, place: TopicPartition, topic: Topic) -> Partition:
        identity = topic.id or f"{self._cluster.cluster_id}:{topic.name}"
        return Partition("topic", identity, place.partition, place.topic)

    def _batch(self, fetched: Fetched) -> EventBatch | None:
        partition = self._partitions.get(fetched.partition)
        if partition is None:
            return None
        return EventBatch(fetched.rows, partition, Span(fetched.start, fetched.end))

    def _finish_when_read(self) -> None:
        if not self._context.once or self._unsought:
            return
        positions = self._fetcher.positions()
        if all(positions.get(place, -1) >= self._ends.get(place, 0) for place in self._partitions):
            raise Finished("read up to the end that the topics had at the start")

    def _first_offset(self, partition: Partition) -> int:
        """Where a partition that no sink knows begins."""
        place = place_of(partition)
        first = list_offsets(self._cluster, [place], EARLIEST)[place]
        if self._settings.start == "beginning" or place not in self._known or not self._is_first_start():
            return first
        end = list_offsets(self._cluster, [place], LATEST, isolation=self._settings.isolation)[place]
        if end > first:
            # Committed without rows, so that the next start goes on from here and skips nothing.
            self._waiting.append(EventBatch(no_rows(), partition, Span(first, end)))
        return end

    def _is_first_start(self) -> bool:
        """The group has committed nothing yet of what there was when this agent started."""
        if self._first_start is None:
            assert self._place is not None
            self._first_start = not self._place.within.committed(self._known)
        return self._first_start

    def _out_of_range(self, error: OffsetOutOfRange) -> EventBatch | None:
        partition = self._partitions.get(error.partition)
        if partition is None:
            return None
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
        self._fetcher.seek(error.partition, error.log_start, topic_id=_topic_id(partition))
        return EventBatch(no_rows(), partition, Span(error.offset, error.log_start), gap=True)

    def _topic_gone(self, error: UnknownTopic) -> Revoked | None:
        """Its rows can come no more; it is looked for until the group shares the partitions out anew."""
        self._say(error.topic, str(error))
        went = {place: p for place, p in self._partitions.items() if place.topic == error.topic}
        self._gone |= went
        gone = self._give_up(went)
        return Revoked(gone) if gone else None

    def _gone_that_came_back(self) -> Assigned | None:
        """The same topic (it was only not known for a moment), or another one of the same name."""
        now = self._clock.monotonic()
        if not self._gone or now < self._look_for_gone_at:
            return None
        self._look_for_gone_at = now + _LOOK_FOR_GONE_EVERY
        topics = self._cluster.topics({place.topic for place in self._gone})
        back = {
            place: self._partition(place, topics[place.topic])
            for place in self._gone
            if place.topic in topics and place.partition < len(topics[place.topic].partitions)
        }
        if not back:
            return None
        for place in back:
            del self._gone[place]
            self._say(place.topic, None)
        self._partitions |= back
        self._unsought |= back.keys()
        return Assigned(tuple(back.values()), self._place)

    def _producer_at(self, place: TopicPartition, offset: int) -> int | None:
        try:
            header = header_at(self._cluster, place, offset)
        except (Retry, Refused, Corrupt):
            return None
        return None if header is None else header.producer_id

    def _note_missing(self, there: Mapping[str, Topic]) -> None:
        for name in self._settings.topics:
            missing = f"topic {name!r} does not exist; it is read from its first row once it does"
            self._say(name, None if name in there else missing)

    def _say(self, place: str, text: str | None) -> None:
        with self._lock:
            if text is None:
                self._problems.pop(place, None)
            else:
                self._problems[place] = text


def _topic_id(partition: Partition) -> str | None:
    """None where the cluster has no topic ids: the partition's id is then its cluster's and its name."""
    return None if ":" in partition.id else partition.id


def _instance_id(context: Context) -> str:
    """group.instance.id: the same over restarts, another for every source of every instance."""
    name = f"{context.pipeline}.{context.agent}.{context.name}"
    return f"tailrace-{hashlib.sha256(f'{name}.{context.instance}'.encode()).hexdigest()[:24]}"
