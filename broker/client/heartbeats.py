"""The thread that keeps a group member alive, and notices what the coordinator answers it."""

import enum
import threading

from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.connection import Connection
from tailrace.broker.client.generation import Generation
from tailrace.broker.client.versions import HEARTBEAT
from tailrace.broker.wire.errors import ErrorCode
from tailrace.errors import TailraceError


class Verdict(enum.Enum):
    """What the coordinator says of a generation."""

    HOLDS = "holds"
    REBALANCE = "a rebalance has begun"
    LOST = "the group has gone on without this member"
    UNKNOWN_MEMBER = "the group does not know this member"
    FENCED = "another process has this member's instance id"


_VERDICTS: dict[int, Verdict] = {
    ErrorCode.none: Verdict.HOLDS,
    ErrorCode.rebalance_in_progress: Verdict.REBALANCE,
    ErrorCode.illegal_generation: Verdict.LOST,
    ErrorCode.unknown_member_id: Verdict.UNKNOWN_MEMBER,
    ErrorCode.fenced_instance_id: Verdict.FENCED,
}
_ALIVE = frozenset({Verdict.HOLDS, Verdict.REBALANCE})


class Heartbeats:
    """One thread and one connection of its own: no slow request of anyone else holds a heartbeat up."""

    def __init__(self, cluster: Cluster, group: str, *, interval: float, session_timeout: float) -> None:
        self._cluster = cluster
        self._group = group
        self._interval = interval
        self._session_timeout = session_timeout
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._generation: Generation | None = None
        self._verdict = Verdict.HOLDS
        self._heard = 0.0
        self._connection: Connection | None = None

    def begin(self, generation: Generation) -> None:
        """Beats for this generation from now on."""
        with self._lock:
            self._generation, self._verdict, self._heard = generation, Verdict.HOLDS, self._now()
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name=f"heartbeats of {self._group}", daemon=True
            )
            self._thread.start()
        self._wake.set()

    def pause(self) -> None:
        """No more beats until the next begin(): while joining, the coordinator waits for no heartbeat."""
        with self._lock:
            self._generation = None

    def verdict(self) -> Verdict:
        """The last word on the generation; LOST, too, when the session must have run out unheard."""
        with self._lock:
            if self._verdict in _ALIVE and self._now() - self._heard > self._session_timeout:
                self._verdict = Verdict.LOST
            return self._verdict

    def close(self) -> None:
        self._closed = True
        self.pause()
        self._wake.set()
        if self._thread is not None:
            # A thread that hangs on a broker ends by itself, and holds nothing up.
            self._thread.join(1.0)

    def _now(self) -> float:
        return self._cluster.clock.monotonic()

    def _run(self) -> None:
        while not self._closed:
            with self._lock:
                generation = self._generation
            if generation is None:
                self._wake.wait()
            else:
                self._wake.wait(self._interval if self._beat(generation) else min(self._interval, 1.0))
            self._wake.clear()
        self._disconnect()

    def _beat(self, generation: Generation) -> bool:
        """One heartbeat; False when none got through, and another should be tried soon."""
        sent = self._now()
        try:
            if self._connection is None or not self._connection.usable:
                self._disconnect()
                node = self._cluster.coordinator("group", self._group)
                self._connection = self._cluster.connect(node)
            answer = self._connection.call(
                HEARTBEAT,
                within=max(self._session_timeout / 3, 1.0),
                group_id=self._group,
                generation_id=generation.generation,
                member_id=generation.member_id,
                group_instance_id=generation.instance_id,
            )
            verdict = _VERDICTS.get(answer.error_code)
        except TailraceError:
            # Whatever it is, the session runs on: verdict() says so when it has run out.
            verdict = None
        if verdict is None:
            self._disconnect()
            self._cluster.forget_coordinator("group", self._group)
            return False
        with self._lock:
            if self._generation is generation and self._verdict in _ALIVE:
                self._heard = sent
                if verdict is not Verdict.HOLDS:
                    self._verdict = verdict
        return True

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
