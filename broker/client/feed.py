"""Fetch requests to one broker: one on its way at a time, sent before the last answer is decoded."""

import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.connection import Connection
from tailrace.broker.client.errors import error_for
from tailrace.broker.client.reading import Reading, extent_of
from tailrace.broker.client.versions import FETCH
from tailrace.broker.wire.fetch import FetchPartition, FetchRequest, FetchTopic, PartitionFetched
from tailrace.errors import Corrupt, Retry


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a fetch, as Fetcher's parameters; isolation as on the wire."""

    max_bytes: int
    partition_bytes: int
    min_bytes: int
    max_wait_ms: int
    isolation_level: int


@dataclass(frozen=True, slots=True)
class Share:
    """One partition's part of an answer: its whole batches cover [offset, end)."""

    reading: Reading
    offset: int
    end: int
    fetched: PartitionFetched


def records_of(fetched: PartitionFetched) -> memoryview:
    """The record batches of a decoded answer: always a view, never a stretch of a file."""
    assert fetched.records is None or isinstance(fetched.records, bytes | bytearray | memoryview)
    return memoryview(fetched.records or b"")


class Feed:
    """One connection to one node. After Disconnected or Corrupt call lost()."""

    def __init__(self, cluster: Cluster, node: int, limits: Limits) -> None:
        self.node = node
        self.shares: deque[Share] = deque()
        """Undecoded; views into the connection's buffer, so the next answer is received when these are
        gone."""
        self._cluster = cluster
        self._limits = limits
        self._connection: Connection | None = None
        self._asked: list[Reading] = []

    @property
    def connection(self) -> Connection | None:
        """To wait on for the answer; None when none is due, or the last one is not decoded yet."""
        return self._connection if self._asked and not self.shares else None

    @property
    def idle(self) -> bool:
        """True when it may ask."""
        return not self._asked

    def ask(self, readings: Sequence[Reading]) -> None:
        """Sends one request for all of them, each from its `asked` on."""
        if self._connection is None or (not self.shares and not self._connection.usable):
            self.lost()
            self._connection = self._cluster.connect(self.node)
        by_id = self._connection.version(FETCH) >= 13
        topics: dict[str, FetchTopic] = {}
        for reading in readings:
            name = reading.partition.topic
            if by_id and reading.topic_id is None:
                raise Retry(f"the id of topic {name!r} is not known yet")
            topic = topics.get(name)
            if topic is None:
                topic_id = uuid.UUID(hex=reading.topic_id) if reading.topic_id is not None else None
                topic = topics[name] = FetchTopic(name, topic_id, [])
            topic.partitions.append(
                FetchPartition(
                    reading.partition.partition,
                    reading.asked,
                    max_bytes=self._limits.partition_bytes,
                    leader_epoch=reading.leader_epoch,
                )
            )
        request = FetchRequest(
            list(topics.values()),
            max_wait_ms=self._limits.max_wait_ms,
            min_bytes=self._limits.min_bytes,
            max_bytes=self._limits.max_bytes,
            isolation_level=self._limits.isolation_level,
        )
        self._asked = list(readings)
        for reading in readings:
            reading.busy = True
        self._connection.send(FETCH, request, timeout=self._cluster.timeout + self._limits.max_wait_ms / 1000)

    def receive(self) -> bool:
        """Takes the answer into `shares` if it is here, whole; their readings stay busy. Raises Disconnected,
        Corrupt or Retry."""
        assert self._connection is not None
        got = self._connection.receive(0)
        if got is None:
            return False
        response = got[1]
        if response.error:
            raise error_for(response.error, f"fetching from {self._connection.address}")
        asked = {self._key(reading): reading for reading in self._asked}
        for topic in response.topics:
            name = topic.topic_id.hex if topic.topic_id is not None else topic.name
            for fetched in topic.partitions:
                reading = asked.pop((name, fetched.partition), None)
                if reading is None:
                    raise Corrupt(f"a fetch answer names {name}-{fetched.partition}, which was not asked for")
                self.shares.append(self._share(reading, fetched))
        for reading in asked.values():
            reading.busy = False
        self._asked = []
        return True

    def _share(self, reading: Reading, fetched: PartitionFetched) -> Share:
        """Moves the reading on, so that the next request may go out; one with an error stays busy until that
        is dealt with."""
        offset = reading.asked
        if fetched.error:
            return Share(reading, offset, offset, fetched)
        reading.busy = False
        records = records_of(fetched)
        extent = extent_of(records, offset)
        if extent is not None:
            reading.asked, reading.batch_epoch = extent.next_offset, extent.leader_epoch
        elif len(records) and reading is self._asked[0]:
            # KIP-74: the first partition's first batch comes whole, whatever its size.
            raise Corrupt(
                f"{reading.partition}: no whole record batch in {len(records)} bytes at offset {offset}"
            )
        return Share(reading, offset, reading.asked, fetched)

    def lost(self) -> None:
        """Closes the connection; what was asked is asked again, what is undecoded stays."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for reading in self._asked:
            reading.busy = False
            self._cluster.forget_topic(reading.partition.topic)
        self._asked = []

    def _key(self, reading: Reading) -> tuple[str, int]:
        assert self._connection is not None
        by_id = self._connection.version(FETCH) >= 13
        return (reading.topic_id or "" if by_id else reading.partition.topic, reading.partition.partition)
