"""A Kafka cluster as a client sees it: bootstrap, versions, metadata, leaders and coordinators, kept
fresh."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal, TypeVar

from tailrace.broker.client.connection import Connection
from tailrace.broker.client.errors import Disconnected, UnknownTopic, raise_for
from tailrace.broker.client.patience import patiently
from tailrace.broker.client.topics import Leader, Node, Topic, TopicPartition
from tailrace.broker.client.versions import FIND_COORDINATOR, METADATA
from tailrace.broker.wire.errors import ErrorCode
from tailrace.clock import Clock, SystemClock
from tailrace.errors import Corrupt, Retry

CoordinatorKind = Literal["group", "transaction"]
_KEY_TYPES: dict[str, int] = {"group": 0, "transaction": 1}
_NOT_THERE = (ErrorCode.unknown_topic_or_partition, ErrorCode.unknown_topic_id)

T = TypeVar("T")


class _Shared:
    """A connection that several threads use, one request at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection: Connection | None = None


class Cluster:
    """Shared by producers, fetchers and groups; any thread may call it.

    bootstrap  `host:port,host:port`; tried in turn
    timeout    seconds an answer may take before its connection is given up (Disconnected)
    patience   seconds a verb of the client goes on over retriable errors, with back-off, before it raises
               Retry
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        client_id: str = "tailrace",
        timeout: float = 30.0,
        patience: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self.timeout = timeout
        self.clock: Clock = clock or SystemClock()
        self._bootstrap = [parse_address(part) for part in bootstrap.split(",") if part.strip()]
        if not self._bootstrap:
            raise ValueError(f"bootstrap: expected host:port,host:port, not {bootstrap!r}")
        self._patience = patience
        self._client_id = client_id
        self._lock = threading.Lock()
        self._shared: dict[int | None, _Shared] = {}
        self._nodes: dict[int, Node] = {}
        self._topics: dict[str, Topic] = {}
        self._coordinators: dict[tuple[str, str], int] = {}
        self._cluster_id: str | None = None
        self._controller = -1

    @property
    def cluster_id(self) -> str:
        """The cluster's own id; empty where it has none. Asks when it is not known yet."""
        if self._cluster_id is None:
            self.topics(())
        return self._cluster_id or ""

    @property
    def controller(self) -> int:
        """The node to send administration to, as of the last answer about topics; -1 when it is not known."""
        return self._controller

    @property
    def nodes(self) -> Collection[Node]:
        """The brokers there are, as of the last answer about topics."""
        return tuple(self._nodes.values())

    def patiently(self, verb: Callable[[], T]) -> T:
        """Calls `verb` again over Retry for this cluster's patience."""
        return patiently(verb, self._patience, self.clock)

    def topic(self, name: str, *, fresh: bool = False) -> Topic:
        """From the cache, or asked for (`fresh`: always). UnknownTopic when it does not exist; never makes it."""
        cached = self._topics.get(name)
        if cached is not None and not fresh:
            return cached
        found = self.topics((name,)).get(name)
        if found is None:
            raise UnknownTopic(name, f"topic {name!r} does not exist on {self._names()}")
        return found

    def topics(self, names: Collection[str] | None = None) -> Mapping[str, Topic]:
        """Asks anew; those that exist of `names`, or all there are."""
        wanted = None if names is None else [{"topic_id": None, "name": name} for name in names]
        answer = self.call(None, METADATA, topics=wanted, allow_auto_topic_creation=False)
        found = {}
        for entry in answer.topics:
            if entry.error_code in _NOT_THERE or (entry.error_code and names is None):
                continue
            raise_for(entry.error_code, f"topic {entry.name!r}")
            found[entry.name] = _topic(entry)
        with self._lock:
            self._nodes = {b.node_id: Node(b.node_id, b.host, b.port) for b in answer.brokers}
            self._cluster_id = answer.cluster_id or ""
            self._controller = answer.controller_id
            for name in names or ():
                if name not in found:
                    self._topics.pop(name, None)
            found = {name: _newer(self._topics.get(name), topic) for name, topic in found.items()}
            self._topics.update(found)
        return found

    def leader(self, partition: TopicPartition) -> Leader:
        """Retry while it has none, UnknownTopic when there is no such partition."""
        leaders = self.topic(partition.topic).partitions
        if partition.partition >= len(leaders):
            leaders = self.topic(partition.topic, fresh=True).partitions
        if not 0 <= partition.partition < len(leaders):
            raise UnknownTopic(partition.topic, f"{partition}: the topic has {len(leaders)} partitions")
        leader = leaders[partition.partition]
        if leader.node < 0:
            self.forget_topic(partition.topic)
            raise Retry(f"{partition} has no leader now")
        return leader

    def coordinator(self, kind: CoordinatorKind, key: str) -> int:
        """The node that coordinates it, from the cache or asked for. Retry while there is none."""
        known = self._coordinators.get((kind, key))
        if known is not None:
            return known
        answer = self.call(None, FIND_COORDINATOR, key=key, key_type=_KEY_TYPES[kind])
        raise_for(answer.error_code, f"the coordinator of {kind} {key!r}")
        node = Node(answer.node_id, answer.host, answer.port)
        with self._lock:
            self._nodes[node.id] = node
            self._coordinators[kind, key] = node.id
        return node.id

    def forget_topic(self, name: str) -> None:
        """The next topic() or leader() asks anew (after NOT_LEADER_OR_FOLLOWER and its like)."""
        with self._lock:
            self._topics.pop(name, None)

    def forget_coordinator(self, kind: CoordinatorKind, key: str) -> None:
        with self._lock:
            self._coordinators.pop((kind, key), None)

    def connect(self, node: int | None) -> Connection:
        """A connection of the caller's own to that node (None: to any), versions negotiated; the caller
        closes it."""
        failure: Disconnected | None = None
        for host, port in self._addresses(node):
            try:
                return Connection(
                    host, port, client_id=self._client_id, timeout=self.timeout, clock=self.clock
                )
            except Disconnected as error:
                failure = error
        if node is not None:
            # The node may have another address by now: the next attempt asks for it.
            with self._lock:
                self._nodes.pop(node, None)
        assert failure is not None
        raise failure

    def call(
        self,
        node: int | None,
        api: int,
        /,
        *,
        within: float | None = None,
        sent: Callable[[], None] | None = None,
        **fields: Any,
    ) -> Any:
        """One request on the shared connection to `node` (None: any); the answer's body, error codes unlooked
        at. `sent` is called when the request is on its way.

        `fields` are the body's, of plain values; those that the negotiated version lacks are dropped.
        """
        with self._lock:
            shared = self._shared.setdefault(node, _Shared())
        with shared.lock:
            if shared.connection is None or not shared.connection.usable:
                if shared.connection is not None:
                    shared.connection.close()
                shared.connection = None
                shared.connection = self.connect(node)
            return shared.connection.call(api, within=within, sent=sent, **fields)

    def close(self) -> None:
        """Closes the shared connections; a later call opens them again."""
        with self._lock:
            shared, self._shared = list(self._shared.values()), {}
        for one in shared:
            with one.lock:
                if one.connection is not None:
                    one.connection.close()

    def _addresses(self, node: int | None) -> Iterator[tuple[str, int]]:
        if node is None:
            yield from self._bootstrap
            for known in list(self._nodes.values()):
                if (known.host, known.port) not in self._bootstrap:
                    yield known.host, known.port
            return
        if node not in self._nodes:
            self.topics(())
        if node not in self._nodes:
            raise Disconnected(f"broker {node} is not among those of {self._names()} now")
        yield self._nodes[node].host, self._nodes[node].port

    def _names(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self._bootstrap)


def parse_address(text: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`; ValueError for anything else."""
    host, colon, port = text.strip().rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"expected host:port, not {text.strip()!r}")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _topic(entry: Any) -> Topic:
    leaders = {
        p.partition_index: Leader(p.leader_id, getattr(p, "leader_epoch", -1)) for p in entry.partitions
    }
    if sorted(leaders) != list(range(len(entry.partitions))):
        raise Corrupt(f"topic {entry.name!r}: its partitions are numbered {sorted(leaders)[:10]}")
    if not leaders:
        raise Retry(f"topic {entry.name!r} has no partitions yet")
    topic_id = getattr(entry, "topic_id", None)
    return Topic(
        entry.name,
        topic_id.hex if topic_id is not None else None,
        tuple(leaders[number] for number in range(len(leaders))),
    )


def _newer(old: Topic | None, new: Topic) -> Topic:
    """KIP-320: an answer from a broker that lags must not bring back a leader of an older epoch."""
    if old is None or old.id != new.id or len(old.partitions) > len(new.partitions):
        return new
    leaders = tuple(
        known if known.epoch > told.epoch else told
        for known, told in zip(old.partitions, new.partitions, strict=False)
    )
    return Topic(new.name, new.id, leaders + new.partitions[len(leaders) :])
