"""The columnar fetcher: whole fetch answers become Arrow rows; the next answer arrives while one is decoded.

One thread uses it, and it has none of its own: what is asked ahead waits in the kernel's socket buffer.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pyarrow as pa

from tailrace.broker.client.admin import EARLIEST, ISOLATION_LEVELS, LATEST, Isolation, list_offsets
from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.connection import wait_readable
from tailrace.broker.client.errors import LogTruncated, OffsetOutOfRange, UnknownTopic, error_for
from tailrace.broker.client.feed import Feed, Limits, Share, records_of
from tailrace.broker.client.reading import Reading
from tailrace.broker.client.topics import Leader, TopicPartition
from tailrace.broker.client.versions import OFFSET_FOR_LEADER_EPOCH
from tailrace.broker.wire.decode import decode_fetch
from tailrace.broker.wire.errors import ErrorCode, is_retriable
from tailrace.errors import Corrupt, Retry, TailraceError
from tailrace.event import no_rows

_RETRY_AFTER = 0.1
_REPORT_AFTER = 5.0
_ENOUGH = 16 * 2**20
"""Bytes of records that poll() answers about at the most: compressed ones may be many times what was fetched."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """One partition's share of a fetch.

    rows         pa.RecordBatch of tailrace.event.SCHEMA, position = Kafka offset; may have 0 rows
                 (markers, aborted or compacted rows) and still moves the position
    start, end   offsets [start, end) it covers; the next Fetched of the partition starts at `end`
    log_start    first offset there is (-1: not told)
    high_watermark, last_stable   as of the answer
    """

    partition: TopicPartition
    rows: pa.RecordBatch
    start: int
    end: int
    log_start: int
    high_watermark: int
    last_stable: int


class Fetcher:
    """Reads partitions from given offsets on.

    max_bytes        bytes of one answer; memory is about three times that a node, more where rows are
                     compressed
    partition_bytes  bytes of one partition in it
    max_wait         seconds the broker may wait for min_bytes
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        isolation: Isolation = "read_committed",
        max_bytes: int = 8 * 2**20,
        partition_bytes: int = 4 * 2**20,
        min_bytes: int = 1,
        max_wait: float = 0.5,
    ) -> None:
        self._cluster = cluster
        self._isolation: Isolation = isolation
        self._limits = Limits(
            max_bytes, partition_bytes, min_bytes, int(max_wait * 1000), ISOLATION_LEVELS[isolation]
        )
        self._readings: dict[TopicPartition, Reading] = {}
        self._feeds: dict[int, Feed] = {}

    def seek(self, partition: TopicPartition, offset: int, *, topic_id: str | None = None) -> None:
        """Reads `partition` from `offset` on, whether or not it was read before; what was prefetched of it is
        dropped.

        topic_id  the id (32 hex digits) that the topic must have; without it, the one it has when first asked
        """
        self._readings[partition] = Reading(partition, offset, offset, topic_id)

    def drop(self, partitions: Collection[TopicPartition]) -> None:
        """Reads them no more."""
        for partition in partitions:
            self._readings.pop(partition, None)

    def positions(self) -> Mapping[TopicPartition, int]:
        """The next offset poll() will answer from, for each partition that is read."""
        return {partition: reading.given for partition, reading in self._readings.items()}

    def lag(self) -> Mapping[TopicPartition, int]:
        """Rows between the position and the last stable offset (high watermark, if uncommitted), as last
        told. Any thread."""
        return {
            partition: max(self._end(reading) - reading.given, 0)
            for partition, reading in list(self._readings.items())
        }

    def held_back(self) -> Mapping[TopicPartition, int]:
        """Partitions read up to where an open transaction hides the rest, and the offset where it begins."""
        return {
            partition: reading.last_stable
            for partition, reading in self._readings.items()
            if self._isolation == "read_committed"
            and reading.given >= reading.last_stable >= 0
            and reading.last_stable < reading.high_watermark
        }

    def poll(self, timeout: float) -> Fetched | None:
        """The next rows of some partition (each in its turn); None when nothing came within `timeout`
        seconds.

        Raises OffsetOutOfRange or LogTruncated (that partition rests until it is sought; the others go on),
        Corrupt for bytes that cannot be right, Retry when a broker or a leader cannot be reached,
        UnknownTopic when the topic is gone or was made anew.
        """
        until = self._now() + timeout
        while True:
            self._ask()
            for feed in self._feeds.values():
                if (fetched := self._next_of(feed)) is not None:
                    return fetched
            if not self._receive(until) and self._now() >= until:
                return None

    def close(self) -> None:
        for feed in self._feeds.values():
            feed.lost()
        self._feeds.clear()
        self._readings.clear()

    def _now(self) -> float:
        return self._cluster.clock.monotonic()

    def _end(self, reading: Reading) -> int:
        return reading.last_stable if self._isolation == "read_committed" else reading.high_watermark

    def _next_of(self, feed: Feed) -> Fetched | None:
        while feed.shares:
            share, fetched = feed.shares[0], None
            try:
                if self._readings.get(share.reading.partition) is share.reading:
                    fetched = self._fetched(share)
            finally:
                # Not before it is decoded: once no share is left, the next answer is written over it.
                feed.shares.popleft()
            if fetched is not None:
                if fetched.end < share.end:
                    feed.shares.appendleft(replace(share, offset=fetched.end))
                return fetched
        return None

    def _fetched(self, share: Share) -> Fetched | None:
        reading, fetched = share.reading, share.fetched
        if fetched.error:
            self._raise_fault(share)
            return None
        reading.failing_since = None
        reading.log_start = fetched.log_start
        reading.high_watermark = fetched.high_watermark
        reading.last_stable = fetched.last_stable_offset
        if share.end == share.offset:
            return None
        decoded = decode_fetch(
            records_of(fetched),
            start=share.offset,
            aborted=fetched.aborted or (),
            read_committed=self._isolation == "read_committed",
            enough=_ENOUGH,
        )
        if decoded.whole != (decoded.next_offset == share.end):
            raise Corrupt(
                f"{reading.partition}: decoded to {decoded.next_offset}, but its batches end at {share.end}"
            )
        reading.given = decoded.next_offset
        return Fetched(
            reading.partition,
            no_rows() if decoded.rows is None else decoded.rows,
            share.offset,
            decoded.next_offset,
            reading.log_start,
            reading.high_watermark,
            reading.last_stable,
        )

    def _ask(self) -> None:
        """Sends the next request to each leader that has none on its way."""
        now = self._now()
        wanted: dict[int, list[Reading]] = {}
        for reading in list(self._readings.values()):
            if not (reading.resting or reading.busy or reading.not_before > now):
                wanted.setdefault(self._leader_of(reading), []).append(reading)
        for node, readings in wanted.items():
            feed = self._feeds.get(node)
            if feed is None:
                feed = self._feeds[node] = Feed(self._cluster, node, self._limits)
            if feed.idle:
                with self._lost_on_fault(feed, readings):
                    feed.ask(readings)

    def _receive(self, until: float) -> bool:
        """Waits for an answer, `until` at the most; True when one is here."""
        waiting = {feed.connection: feed for feed in self._feeds.values() if feed.connection is not None}
        next_try = [r.not_before for r in self._readings.values() if not r.resting and not r.busy]
        left = max(min([until, *next_try]) - self._now(), 0)
        if waiting:
            wait_readable(waiting, left)
        else:
            self._cluster.clock.sleep(left)
        received = False
        for feed in waiting.values():
            with self._lost_on_fault(feed, ()):
                if feed.receive():
                    received = True
                    for share in feed.shares:
                        self._to_the_back(share)
        return received

    def _to_the_back(self, share: Share) -> None:
        """Brokers fill an answer in the order of the request: who got something is asked for last the next
        time."""
        partition = share.reading.partition
        if share.end > share.offset and self._readings.get(partition) is share.reading:
            self._readings[partition] = self._readings.pop(partition)

    @contextmanager
    def _lost_on_fault(self, feed: Feed, asking: Collection[Reading]) -> Iterator[None]:
        try:
            yield
        except TailraceError:
            feed.lost()
            for reading in asking:
                reading.not_before = self._now() + _RETRY_AFTER
                self._cluster.forget_topic(reading.partition.topic)
            raise

    def _leader_of(self, reading: Reading) -> int:
        """The node to ask; the errors of poll() when the topic is gone, another, or cut short under a new
        leader."""
        partition = reading.partition
        try:
            topic = self._cluster.topic(partition.topic)
            leader = self._cluster.leader(partition)
            if leader.epoch != reading.leader_epoch and reading.batch_epoch >= 0:
                self._check_truncation(reading, leader)
        except Retry:
            reading.not_before = self._now() + 10 * _RETRY_AFTER
            raise
        if reading.topic_id is None:
            reading.topic_id = topic.id
        elif topic.id != reading.topic_id:
            reading.resting = True
            raise UnknownTopic(
                topic.name,
                f"topic {topic.name!r} was made anew: its id is {topic.id}, not {reading.topic_id}",
            )
        reading.leader_epoch = leader.epoch
        return leader.node

    def _check_truncation(self, reading: Reading, leader: Leader) -> None:
        """KIP-320: asks a new leader where the epoch of the last batch read ends in its log."""
        partition = reading.partition
        wanted = {
            "partition": partition.partition,
            "current_leader_epoch": leader.epoch,
            "leader_epoch": reading.batch_epoch,
        }
        answer = self._cluster.call(
            leader.node,
            OFFSET_FOR_LEADER_EPOCH,
            replica_id=-1,
            topics=[{"topic": partition.topic, "partitions": [wanted]}],
        )
        for topic in answer.topics:
            for entry in topic.partitions:
                if entry.error_code:
                    self._cluster.forget_topic(partition.topic)
                    raise error_for(entry.error_code, f"the leader epochs of {partition}")
                if 0 <= entry.end_offset < reading.asked:
                    reading.resting = True
                    raise LogTruncated(partition, reading.asked, reading.batch_epoch, entry.end_offset)

    def _raise_fault(self, share: Share) -> None:
        """Raises what an error code means, or lets the partition be asked again a little later."""
        reading, code = share.reading, share.fetched.error
        partition = reading.partition
        reading.busy = False
        now = self._now()
        reading.not_before = now + _RETRY_AFTER
        if code == ErrorCode.offset_out_of_range:
            start = list_offsets(self._cluster, [partition], EARLIEST)[partition]
            end = list_offsets(self._cluster, [partition], LATEST)[partition]
            if not start <= share.offset <= end:
                reading.resting = True
                raise OffsetOutOfRange(partition, share.offset, start, end)
        elif code == ErrorCode.corrupt_message or not is_retriable(code):
            reading.resting = True
            error = error_for(code, f"fetching {partition} from offset {share.offset}")
            raise Corrupt(str(error)) if code == ErrorCode.corrupt_message else error
        self._cluster.forget_topic(partition.topic)
        if reading.failing_since is None:
            reading.failing_since = now
        elif now - reading.failing_since > _REPORT_AFTER:
            reading.failing_since = None
            raise error_for(code, f"fetching {partition}")
