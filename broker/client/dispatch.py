"""All that a producer has on its way: which batch goes to which broker next, and what becomes of it by the
answer."""

from collections.abc import Callable, Collection

from tailrace.broker.client.admin import topic_configs
from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.connection import wait_readable
from tailrace.broker.client.errors import Refused
from tailrace.broker.client.outbox import Identity, Outbox
from tailrace.broker.client.sender import Answer, Sender
from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.client.transactions import anonymous_identity
from tailrace.broker.wire.batch import Codec
from tailrace.broker.wire.errors import ErrorCode
from tailrace.errors import Retry, Rewind, TailraceError

_DELIVERED = frozenset({ErrorCode.none, ErrorCode.duplicate_sequence_number})
_LOST_SEQUENCE = frozenset(
    {
        ErrorCode.out_of_order_sequence_number,
        ErrorCode.unknown_producer_id,
        ErrorCode.invalid_producer_epoch,
    }
)
_REQUEST_BYTES = 8 * 2**20
_DEFAULT_LIMIT = 1_048_588
_LEAST_LIMIT = 2048
_BACKLOG = 8
"""Batches that wait while every broker has five requests: what waits of several partitions goes as one request."""
_REMEMBERED_MS = 3_600_000


class Dispatch:
    """Sends outboxes' batches in order and files the answers. Verbs raise Retry with everything kept: call
    them again.

    error_of  what an error code of a produce answer is, with the place
    announce  called with the partitions of a request before it is sent
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        acks: int,
        codec: Codec,
        batch_bytes: int,
        depth: int,
        transactional_id: str | None,
        error_of: Callable[[int, str], TailraceError],
        announce: Callable[[Collection[TopicPartition]], None],
    ) -> None:
        self._cluster = cluster
        self._acks = acks
        self._codec = codec
        self._batch_bytes = batch_bytes
        self._depth = depth
        self._transactional_id = transactional_id
        self._error_of = error_of
        self._announce = announce
        self._outboxes: dict[TopicPartition, Outbox] = {}
        self._active: dict[TopicPartition, Outbox] = {}
        self._senders: dict[int, Sender] = {}
        self._identity = Identity()
        self._sequences_lost = False

    @property
    def empty(self) -> bool:
        """True when everything taken is answered for."""
        return all(outbox.empty for outbox in self._active.values())

    def reset(self, identity: Identity) -> None:
        """Forgets all that is on its way, with the connections, and starts anew as `identity`."""
        for sender in self._senders.values():
            sender.close()
        self._senders.clear()
        self._outboxes.clear()
        self._active.clear()
        self._identity = identity
        self._sequences_lost = False

    def outbox(self, partition: TopicPartition) -> Outbox:
        """The partition's outbox; UnknownTopic or Retry when it has no leader now."""
        outbox = self._outboxes.get(partition)
        if outbox is None:
            self._cluster.leader(partition)
            if self._acks == -1 and not self._identity.idempotent:
                self._identity = anonymous_identity(self._cluster)
            limit = self._limit(partition.topic)
            target = min(self._batch_bytes, limit - 1024)
            outbox = self._outboxes[partition] = Outbox(partition, self._identity, self._codec, limit, target)
        self._active[partition] = outbox
        return outbox

    def cut(self) -> None:
        """What is gathered is to go, however little it is."""
        for outbox in self._active.values():
            outbox.cut()

    def make_room(self) -> None:
        """Returns when there is room for more: at most `_BACKLOG` batches have not been sent."""
        while self._backlog() > _BACKLOG:
            self.transmit()
            if self._backlog() > _BACKLOG:
                self._take_answers(self._cluster.timeout)

    def _backlog(self) -> int:
        return sum(outbox.unsent for outbox in self._active.values())

    def drain(self) -> None:
        """Returns when everything taken is answered for."""
        self._active = {at: outbox for at, outbox in self._active.items() if not outbox.empty}
        while any(not outbox.empty for outbox in self._active.values()):
            self.transmit()
            self._take_answers(self._cluster.timeout)

    def transmit(self) -> None:
        """Sends what may go now, without waiting for an answer."""
        self._take_answers(0)
        if self._sequences_lost:
            self._renumber()
        while shipments := self._shipments():
            for sender, outboxes in shipments:
                self._ship(sender, outboxes)

    def _shipments(self) -> list[tuple[Sender, list[Outbox]]]:
        """The partitions with something to send, by leaders that can take another request."""
        if self._sequences_lost:
            return []
        by_node: dict[int, list[Outbox]] = {}
        for outbox in self._active.values():
            if outbox.ready:
                # Behind batches in flight on another broker only the answers tell what may follow.
                node = self._cluster.leader(outbox.partition).node if outbox.node is None else outbox.node
                by_node.setdefault(node, []).append(outbox)
        return [(s, by_node[s.node]) for s in map(self._sender, by_node) if not s.full]

    def _sender(self, node: int) -> Sender:
        sender = self._senders.get(node)
        if sender is None:
            sender = self._senders[node] = Sender(
                self._cluster,
                node,
                acks=self._acks,
                transactional_id=self._transactional_id,
                depth=self._depth,
            )
        return sender

    def _ship(self, sender: Sender, outboxes: list[Outbox]) -> None:
        self._announce([outbox.partition for outbox in outboxes])
        shipment, size = [], 0
        for outbox in outboxes:
            batch = outbox.next_batch()
            if batch is not None and batch.data is not None:
                shipment.append((outbox, batch))
                size += len(batch.data)
            if size >= _REQUEST_BYTES:
                break
        try:
            sender.send(shipment)
        except Retry:
            for outbox in outboxes:
                self._cluster.forget_topic(outbox.partition.topic)
            self._lost(sender)
            raise

    def _lost(self, sender: Sender) -> None:
        """What is unanswered goes again, if the broker can tell that it has it already.

        Apache Kafka forgets a producer's sequences by the *rows'* timestamps (producer.id.expiration.ms, a
        day by
        default) when it restarts: old rows sent again might be doubled. A transaction can be given up
        instead.
        """
        doubtful = sender.lost()
        if self._transactional_id is None:
            return
        old = self._cluster.clock.now_ms() - _REMEMBERED_MS
        if any(batch.newest() < old for batch in doubtful):
            raise Rewind(
                "the answer for rows with timestamps of more than an hour ago is lost: a broker may have "
                "forgotten whether it has them, so their transaction is given up"
            )

    def _take_answers(self, timeout: float) -> None:
        """Files the answers that are here, waiting up to `timeout` s for the first. Raises the worst of their
        errors."""
        waiting = {s.connection: s for s in self._senders.values() if s.connection is not None}
        if not waiting:
            return
        wait_readable(waiting, timeout)
        errors: list[TailraceError] = []
        for sender in waiting.values():
            try:
                while sender.connection is not None and (answers := sender.receive(0)) is not None:
                    errors += filter(None, map(self._settle, answers))
            except Retry as error:
                self._lost(sender)
                errors.append(error)
            except TailraceError as error:
                errors.append(error)
        for worst in sorted(errors, key=lambda error: isinstance(error, Retry)):
            raise worst

    def _settle(self, answer: Answer) -> TailraceError | None:
        """Files one answer; answers its error, if the caller must hear of it."""
        outbox, batch, code = answer.outbox, answer.batch, answer.produced.error
        if code in _DELIVERED:
            outbox.delivered(batch)
            return None
        first = outbox.is_first(batch)
        outbox.failed(batch)
        if code == ErrorCode.message_too_large and batch.rows.num_rows > 1:
            outbox.shrink(batch)
            return None
        if code in _LOST_SEQUENCE:
            if not first:
                return None
            if self._transactional_id is None:
                self._sequences_lost = True
                return None
        reason = answer.produced.error_message
        error = self._error_of(code, f"writing to {outbox.partition}{f' ({reason})' if reason else ''}")
        if isinstance(error, Retry):
            self._cluster.forget_topic(outbox.partition.topic)
        return error

    def _renumber(self) -> None:
        """The broker no longer knows this producer id's sequences (its state expired, or rows were lost): a
        new id (KIP-360)."""
        if any(outbox.in_flight for outbox in self._active.values()):
            return
        self._identity = anonymous_identity(self._cluster)
        for outbox in self._outboxes.values():
            outbox.renumber(self._identity)
        self._sequences_lost = False

    def _limit(self, topic: str) -> int:
        """max.message.bytes; Kafka's default where the broker does not say (no right to read the
        settings)."""
        try:
            told = topic_configs(self._cluster, topic, ("max.message.bytes",))["max.message.bytes"]
            return max(int(told), _LEAST_LIMIT)
        except (Refused, KeyError, ValueError):
            return _DEFAULT_LIMIT
