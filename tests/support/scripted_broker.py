"""A cluster of scripted brokers over real sockets: it answers as told, and can lose, cut, delay or falsify an
answer.

By default every request gets a plausible answer and is remembered. `next_time(key, reaction)` changes the
answer to one request; a reaction gets the decoded request and gives a Reply.
"""

import contextlib
import socket
import struct
import threading
import uuid
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tailrace.broker.wire import messages
from tailrace.broker.wire.fetch import FetchResponse, PartitionFetched, TopicFetched
from tailrace.broker.wire.messages import APIS, Request
from tailrace.broker.wire.produce import PartitionProduced, ProduceResponse


@dataclass(frozen=True)
class Body:
    """An answer: a body built by messages.response, or a Produce or Fetch dataclass."""

    value: Any
    correlation_id: int | None = None
    """Another correlation id than the request's."""


@dataclass(frozen=True)
class Raw:
    """These bytes, whatever they are; then the connection is closed if `close`."""

    data: bytes
    close: bool = False


@dataclass(frozen=True)
class Cut:
    """The first `keep` bytes of the plausible answer, then the connection is closed."""

    keep: int = 0


@dataclass(frozen=True)
class Silence:
    """No answer, and the connection stays open."""


Reply = Body | Raw | Cut | Silence
Reaction = Callable[[Request], Reply]


@dataclass
class Seen:
    """A request that came, and to which node."""

    node: int
    request: Request


@dataclass
class ScriptedCluster:
    """`nodes` brokers with ids 0, 1, ...; topics by name with a number of partitions, all led by node 0 at
    first."""

    topics: dict[str, int] = field(default_factory=lambda: {"t": 1})
    nodes: int = 1

    def __post_init__(self) -> None:
        self.cluster_id = "scripted"
        self.ids = {name: uuid.uuid4() for name in self.topics}
        self.leaders = {(name, p): (0, 1) for name, count in self.topics.items() for p in range(count)}
        self.coordinator = 0
        self.versions = {key: (api.lowest, api.highest) for key, api in APIS.items()}
        self.configs = {"max.message.bytes": "1048588", "cleanup.policy": "delete"}
        self.seen: list[Seen] = []
        self.producer_epoch = -1
        self.batches: dict[tuple[str, int], bytes] = {}
        """What a fetch answers, by topic and partition, wherever it starts."""
        self._script: dict[int, deque[Reaction]] = defaultdict(deque)
        self._always: Reaction | None = None
        self._before_always = 0
        self._changed = threading.Condition()
        self.brokers = [ScriptedBroker(self, node) for node in range(self.nodes)]

    @property
    def bootstrap(self) -> str:
        return ",".join(broker.address for broker in self.brokers)

    def close(self) -> None:
        for broker in self.brokers:
            broker.stop()

    def add_topic(self, name: str, partitions: int) -> None:
        """Also makes a topic anew: with another id."""
        self.topics[name] = partitions
        self.ids[name] = uuid.uuid4()
        self.leaders |= {(name, p): (0, 1) for p in range(partitions)}

    def next_time(self, key: int, *reactions: Reaction) -> None:
        """The next requests with this API key get these reactions, one each."""
        with self._changed:
            self._script[key].extend(reactions)

    def requests(self, key: int) -> list[Any]:
        """Bodies of all requests with this key so far."""
        with self._changed:
            return [seen.request.body for seen in self.seen if seen.request.api_key == key]

    def wait_for(self, key: int, count: int, seconds: float = 10.0) -> list[Any]:
        """requests(key), once there are `count` of them."""

        def enough() -> bool:
            return sum(seen.request.api_key == key for seen in self.seen) >= count

        with self._changed:
            assert self._changed.wait_for(enough, seconds), f"fewer than {count} requests with key {key}"
        return self.requests(key)

    def reaction_to(self, node: int, request: Request) -> Reply | None:
        with self._changed:
            self.seen.append(Seen(node, request))
            script = self._script[request.api_key]
            reaction = script.popleft() if script else self._after(request)
            self._changed.notify_all()
        return None if reaction is None else reaction(request)

    def from_now_on(self, reaction: Reaction, after: int) -> None:
        """Every request, whatever its key, gets this reaction, but the next `after` ones."""
        with self._changed:
            self._always, self._before_always = reaction, after

    def _after(self, request: Request) -> Reaction | None:
        self._before_always -= 1
        return self._always if self._before_always < 0 else None

    def plausible(self, request: Request) -> Any:
        """The body a working broker might answer."""
        return getattr(self, f"_{APIS[request.api_key].name}")(request)

    def answer(self, request: Request, **values: Any) -> Body:
        """A Reply of plain values in the request's version."""
        return Body(messages.response(request.api_key, request.api_version, **values))

    def _api_versions(self, request: Request) -> Any:
        keys = [
            {"api_key": key, "min_version": low, "max_version": high}
            for key, (low, high) in self.versions.items()
        ]
        return messages.response(18, request.api_version, api_keys=keys)

    def _metadata(self, request: Request) -> Any:
        wanted = request.body.topics
        names = list(self.topics) if wanted is None else [topic.name for topic in wanted]
        topics = [
            {
                "name": name,
                "topic_id": self.ids[name],
                "partitions": [
                    {"partition_index": p, "leader_id": leader, "leader_epoch": epoch}
                    for (topic, p), (leader, epoch) in self.leaders.items()
                    if topic == name
                ],
            }
            if name in self.topics
            else {"name": name, "error_code": 3, "topic_id": None}
            for name in names
        ]
        brokers = [{"node_id": b.node, "host": "127.0.0.1", "port": b.port} for b in self.brokers if b.alive]
        return messages.response(
            3,
            request.api_version,
            brokers=brokers,
            topics=topics,
            cluster_id=self.cluster_id,
            controller_id=0,
        )

    def _produce(self, request: Request) -> ProduceResponse:
        return ProduceResponse(
            [(name, [PartitionProduced(p) for p, _ in entries]) for name, entries in request.body.topics]
        )

    def _fetch(self, request: Request) -> FetchResponse:
        names = {topic_id: name for name, topic_id in self.ids.items()}
        answer = FetchResponse()
        for topic in request.body.topics:
            name = topic.name or names.get(topic.topic_id, "")
            answer.topics.append(
                TopicFetched(
                    topic.name,
                    topic.topic_id,
                    [
                        PartitionFetched(
                            wanted.partition,
                            high_watermark=10**6,
                            last_stable_offset=10**6,
                            log_start=0,
                            records=self.batches.get((name, wanted.partition), b""),
                        )
                        for wanted in topic.partitions
                    ],
                )
            )
        return answer

    def _list_offsets(self, request: Request) -> Any:
        topics = [
            {
                "name": topic.name,
                "partitions": [
                    {"partition_index": p.partition_index, "offset": 100 if p.timestamp == -2 else 200}
                    for p in topic.partitions
                ],
            }
            for topic in request.body.topics
        ]
        return messages.response(2, request.api_version, topics=topics)

    def _describe_configs(self, request: Request) -> Any:
        results = [
            {
                "resource_type": resource.resource_type,
                "resource_name": resource.resource_name,
                "configs": [{"name": key, "value": value} for key, value in self.configs.items()],
            }
            for resource in request.body.resources
        ]
        return messages.response(32, request.api_version, results=results)

    def _find_coordinator(self, request: Request) -> Any:
        broker = self.brokers[self.coordinator]
        return messages.response(
            10, request.api_version, node_id=broker.node, host="127.0.0.1", port=broker.port
        )

    def _init_producer_id(self, request: Request) -> Any:
        self.producer_epoch += 1
        return messages.response(22, request.api_version, producer_id=7, producer_epoch=self.producer_epoch)

    def _add_partitions_to_txn(self, request: Request) -> Any:
        results = [
            {
                "name": topic.name,
                "results_by_partition": [
                    {"partition_index": p, "partition_error_code": 0} for p in topic.partitions
                ],
            }
            for topic in request.body.v3_and_below_topics
        ]
        return messages.response(24, request.api_version, results_by_topic_v3_and_below=results)

    def _add_offsets_to_txn(self, request: Request) -> Any:
        return messages.response(25, request.api_version)

    def _txn_offset_commit(self, request: Request) -> Any:
        topics = [
            {"name": t.name, "partitions": [{"partition_index": p.partition_index} for p in t.partitions]}
            for t in request.body.topics
        ]
        return messages.response(28, request.api_version, topics=topics)

    def _end_txn(self, request: Request) -> Any:
        return messages.response(26, request.api_version)

    def _offset_for_leader_epoch(self, request: Request) -> Any:
        topics = [
            {
                "topic": t.topic,
                "partitions": [{"partition": p.partition, "end_offset": 10**6} for p in t.partitions],
            }
            for t in request.body.topics
        ]
        return messages.response(23, request.api_version, topics=topics)

    def _offset_fetch(self, request: Request) -> Any:
        topics = [
            {
                "name": topic.name,
                "partitions": [
                    {"partition_index": p, "committed_offset": 5, "metadata": ""}
                    for p in topic.partition_indexes
                ],
            }
            for topic in request.body.topics
        ]
        return messages.response(9, request.api_version, topics=topics)

    def _create_topics(self, request: Request) -> Any:
        topics = [{"name": topic.name, "topic_id": uuid.uuid4()} for topic in request.body.topics]
        return messages.response(19, request.api_version, topics=topics)

    def _delete_topics(self, request: Request) -> Any:
        responses = [{"name": name} for name in request.body.topic_names]
        return messages.response(20, request.api_version, responses=responses)

    def _join_group(self, request: Request) -> Any:
        """A group of one: the member leads it."""
        body = request.body
        member_id = body.member_id or "member-1"
        return messages.response(
            11,
            request.api_version,
            generation_id=1,
            protocol_type="consumer",
            protocol_name=body.protocols[0].name,
            leader=member_id,
            member_id=member_id,
            members=[{"member_id": member_id, "metadata": body.protocols[0].metadata}],
        )

    def _sync_group(self, request: Request) -> Any:
        assignments = [entry.assignment for entry in request.body.assignments]
        return messages.response(14, request.api_version, assignment=b"".join(assignments[:1]))

    def _heartbeat(self, request: Request) -> Any:
        return messages.response(12, request.api_version)

    def _leave_group(self, request: Request) -> Any:
        return messages.response(13, request.api_version)


class ScriptedBroker:
    """One node: a listening socket, and a thread for each connection."""

    def __init__(self, cluster: ScriptedCluster, node: int) -> None:
        self.node = node
        self.alive = True
        self._cluster = cluster
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        """As a crash: refuses connections from now on, and cuts those that are there."""
        if not self.alive:
            return
        self.alive = False
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def start(self, *, anew: bool = False) -> None:
        """Listens again, at the same address or (anew) at another one."""
        self._listener = socket.create_server(("127.0.0.1", 0 if anew else self.port))
        self.port = self._listener.getsockname()[1]
        self.alive = True
        threading.Thread(target=self._accept, daemon=True).start()

    def connections(self) -> list[socket.socket]:
        with self._lock:
            return list(self._connections)

    def cut(self) -> None:
        """Ends all connections."""
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        listener = self._listener
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                if not self.alive:
                    connection.close()
                    return
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                while len(head := stream.read(4)) == 4:
                    frame = stream.read(struct.unpack(">i", head)[0])
                    if not self._react(connection, messages.decode_request(memoryview(frame))):
                        return
        except OSError:
            pass
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _react(self, connection: socket.socket, request: Request) -> bool:
        reply = self._cluster.reaction_to(self.node, request)
        if isinstance(reply, Silence):
            return True
        if isinstance(reply, Raw):
            connection.sendall(reply.data)
            return not reply.close
        body = reply.value if isinstance(reply, Body) else self._cluster.plausible(request)
        if request.api_key == 0 and request.body.acks == 0:
            return True
        correlation_id = request.correlation_id
        if isinstance(reply, Body) and reply.correlation_id is not None:
            correlation_id = reply.correlation_id
        frame = b"".join(
            bytes(piece)  # type: ignore[arg-type]
            for piece in messages.encode_response(request.api_key, request.api_version, correlation_id, body)
        )
        if isinstance(reply, Cut):
            connection.sendall(frame[: reply.keep])
            return False
        connection.sendall(frame)
        return True
