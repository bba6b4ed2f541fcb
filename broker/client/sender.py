"""Produce requests to one broker: up to five unanswered, answers in order, a lost connection gives all of
them back."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.connection import Connection
from tailrace.broker.client.outbox import Batch, Outbox
from tailrace.broker.client.versions import PRODUCE
from tailrace.broker.wire.produce import PartitionProduced, ProduceRequest
from tailrace.errors import Corrupt

Shipment = Sequence[tuple[Outbox, Batch]]
"""At most one batch a partition: all that Kafka takes in one request."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the broker says of one batch."""

    outbox: Outbox
    batch: Batch
    produced: PartitionProduced


class Sender:
    """One connection to one node, made when first needed. Any fault is Disconnected, after which lost() must
    be called."""

    def __init__(
        self, cluster: Cluster, node: int, *, acks: int, transactional_id: str | None, depth: int
    ) -> None:
        self.node = node
        self._cluster = cluster
        self._acks = acks
        self._transactional_id = transactional_id
        self._depth = depth
        self._connection: Connection | None = None
        self._flights: deque[Shipment] = deque()

    @property
    def connection(self) -> Connection | None:
        """To wait on for answers; None when none are due."""
        return self._connection if self._flights else None

    @property
    def full(self) -> bool:
        return len(self._flights) >= self._depth

    def send(self, shipment: Shipment) -> None:
        """With acks=0 the batches count as delivered when the socket has them."""
        if self._connection is None or not self._connection.usable:
            if self._connection is not None:
                self._connection.close()
            self._connection = self._cluster.connect(self.node)
        topics: dict[str, list[tuple[int, bytes | bytearray | memoryview | None]]] = {}
        for outbox, batch in shipment:
            outbox.sending(batch, self.node)
            topics.setdefault(outbox.partition.topic, []).append((outbox.partition.partition, batch.data))
        request = ProduceRequest(
            self._transactional_id, self._acks, int(self._cluster.timeout * 800), list(topics.items())
        )
        self._flights.append(shipment)
        self._connection.send(PRODUCE, request, answered=self._acks != 0)
        if self._acks == 0:
            for outbox, batch in self._flights.pop():
                outbox.delivered(batch)

    def receive(self, timeout: float) -> list[Answer] | None:
        """The answers to the oldest request, one for each of its batches; None when they are not here within
        `timeout`."""
        assert self._connection is not None
        got = self._connection.receive(timeout)
        if got is None:
            return None
        produced = {(name, entry.partition): entry for name, entries in got[1].topics for entry in entries}
        shipment = self._flights[0]
        try:
            answers = [
                Answer(outbox, batch, produced[outbox.partition.topic, outbox.partition.partition])
                for outbox, batch in shipment
            ]
        except KeyError as error:
            raise Corrupt(f"{self._connection.address} leaves {error} out of a produce answer") from None
        self._flights.popleft()
        return answers

    def lost(self) -> list[Batch]:
        """Closes the connection: what is unanswered is failed, and its leaders are asked for anew; the
        batches whose fate is not known.
        """
        self.close()
        doubtful = []
        while self._flights:
            for outbox, batch in self._flights.popleft():
                outbox.failed(batch)
                doubtful.append(batch)
                self._cluster.forget_topic(outbox.partition.topic)
        return doubtful

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
