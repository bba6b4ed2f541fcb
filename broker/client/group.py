"""Membership in a consumer group by the classic protocol: join, sync, heartbeats in a thread, leave.

Eager: before a rebalance every partition is given up, and Left says so while they are still this member's.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.connection import Connection
from tailrace.broker.client.consumer_protocol import (
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from tailrace.broker.client.errors import Refused, error_for, raise_for
from tailrace.broker.client.generation import Generation
from tailrace.broker.client.heartbeats import Heartbeats, Verdict
from tailrace.broker.client.members import Assignment, Member
from tailrace.broker.client.range_assignor import assign_range
from tailrace.broker.client.roundrobin_assignor import assign_roundrobin
from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.client.versions import JOIN_GROUP, LEAVE_GROUP, SYNC_GROUP
from tailrace.broker.wire.errors import ErrorCode
from tailrace.errors import Corrupt, Fenced, Retry, TailraceError

Assignor = Literal["range", "roundrobin"]
_ASSIGNORS: Mapping[str, Callable[[Sequence[Member], Mapping[str, int]], Assignment]] = {
    "range": assign_range,
    "roundrobin": assign_roundrobin,
}
_PROTOCOL_TYPE = "consumer"
_START_OVER = frozenset({ErrorCode.unknown_member_id, ErrorCode.illegal_generation})
_WATCH_EVERY = 30.0
_WATCH_MISSING_EVERY = 1.0


class _State(enum.Enum):
    """OUT -> JOINING -> SYNCING -> MEMBER -> GOING -> OUT; any fault leads to OUT."""

    OUT = "no request is out, no place is held"
    JOINING = "JoinGroup is unanswered"
    SYNCING = "SyncGroup is unanswered"
    MEMBER = "a place is held"
    GOING = "Left was answered; the place is held until the next poll_membership()"


@dataclass(frozen=True, slots=True)
class Joined:
    """This member has these partitions now, for as long as `generation` lasts."""

    generation: Generation
    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """These partitions go. `lost`: others may have them already; else they stay ours until the next
    poll_membership()."""

    partitions: tuple[TopicPartition, ...]
    lost: bool


class Group:
    """One member of a group. Its verbs belong to one thread; heartbeats run in another of its own.

    assignors          names in order of preference: "range", "roundrobin", as Java and librdkafka have them
    instance_id        group.instance.id: a restart within the session takes its place back without a
                       rebalance (KIP-345)
    session_timeout    seconds without a heartbeat after which the group goes on without this member
    rebalance_timeout  seconds a rebalance waits for this member to come back with poll_membership()
    """

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        topics: Sequence[str],
        *,
        assignors: Sequence[Assignor] = ("range",),
        instance_id: str | None = None,
        session_timeout: float = 45.0,
        rebalance_timeout: float = 60.0,
        heartbeat_interval: float = 3.0,
    ) -> None:
        self._cluster = cluster
        self._group = group
        self._topics = tuple(topics)
        self._assignors = tuple(assignors)
        self._instance_id = instance_id
        self._session_timeout = session_timeout
        self._rebalance_timeout = rebalance_timeout
        self._heartbeats = Heartbeats(
            cluster, group, interval=heartbeat_interval, session_timeout=session_timeout
        )
        self._state = _State.OUT
        self._connection: Connection | None = None
        self._member_id = ""
        self._generation: Generation | None = None
        self._joining: Generation | None = None
        self._partitions: tuple[TopicPartition, ...] = ()
        self._watched: Mapping[str, tuple[str | None, int]] | None = None
        self._watch_at = 0.0

    @property
    def generation(self) -> Generation | None:
        """The place held now; None while there is none."""
        return self._generation

    def poll_membership(self, timeout: float = 0.0) -> Joined | Left | None:
        """What has changed; joins, and waits up to `timeout` seconds for the group to settle. None: nothing
        new.

        After Left the next call gives the partitions up and joins again. Raises Fenced when another process
        has taken this instance_id, Refused when the group does not take this member, Retry when the
        coordinator cannot be reached. The group's leader notices new partitions and topics itself.
        """
        until = self._cluster.clock.monotonic() + timeout
        while True:
            before = self._state
            try:
                change = self._STEPS[before](self, until)
            except TailraceError:
                if self._state is not _State.MEMBER:
                    self._start_over()
                raise
            if change is not None:
                return change
            late = self._cluster.clock.monotonic() >= until
            if self._state is _State.MEMBER or (late and self._state is before):
                return None

    def leave(self) -> None:
        """Tells the coordinator that this member (a static one, too) is gone. Retry when it cannot be
        told."""
        if self._member_id:
            self._cluster.call(
                self._cluster.coordinator("group", self._group),
                LEAVE_GROUP,
                group_id=self._group,
                member_id=self._member_id,
                members=[{"member_id": self._member_id, "group_instance_id": self._instance_id}],
            )
        self._member_id = ""
        self._start_over()

    def close(self, *, leave: bool | None = None) -> None:
        """Stops the heartbeats; leaves the group unless static (leave=None), always, or never (True, False).

        A coordinator that cannot be told finds out when the session ends.
        """
        self._heartbeats.close()
        try:
            if leave or (leave is None and self._instance_id is None):
                self.leave()
        except Retry:
            pass
        finally:
            self._start_over()

    def _join(self, until: float) -> None:
        # Patiently: the first member of a cluster's first group waits for the offsets topic to be made.
        node = self._cluster.patiently(lambda: self._cluster.coordinator("group", self._group))
        self._connection = self._cluster.connect(node)
        subscription = encode_subscription(self._topics)
        body = self._connection.request(
            JOIN_GROUP,
            group_id=self._group,
            session_timeout=int(self._session_timeout * 1000),
            rebalance_timeout=int(self._rebalance_timeout * 1000),
            member_id=self._member_id,
            group_instance_id=self._instance_id,
            protocol_type=_PROTOCOL_TYPE,
            protocols=[{"name": name, "metadata": subscription} for name in self._assignors],
            reason=None,
        )
        # The answer comes when every member has joined, or when the slowest one's time is up.
        patience = self._rebalance_timeout + self._session_timeout + self._cluster.timeout
        self._connection.send(JOIN_GROUP, body, timeout=patience)
        self._state = _State.JOINING

    def _take_join(self, until: float) -> None:
        answer = self._answer(until)
        if answer is None:
            return
        code = answer.error_code
        if code == ErrorCode.member_id_required:
            self._member_id = answer.member_id
            self._start_over()
            return
        if self._must_join_again(code):
            return
        self._check(code)
        self._member_id = answer.member_id
        assignments = []
        self._watched = None
        if answer.leader == answer.member_id and not getattr(answer, "skip_assignment", False):
            assignments = self._assign(answer.protocol_name, answer.members)
        self._joining = Generation(
            self._group, answer.generation_id, answer.member_id, self._instance_id, self._cluster
        )
        assert self._connection is not None
        body = self._connection.request(
            SYNC_GROUP,
            group_id=self._group,
            generation_id=answer.generation_id,
            member_id=answer.member_id,
            group_instance_id=self._instance_id,
            protocol_type=_PROTOCOL_TYPE,
            protocol_name=answer.protocol_name,
            assignments=assignments,
        )
        self._connection.send(SYNC_GROUP, body, timeout=self._rebalance_timeout + self._cluster.timeout)
        self._state = _State.SYNCING

    def _take_sync(self, until: float) -> Joined | None:
        answer = self._answer(until)
        if answer is None or self._must_join_again(answer.error_code):
            return None
        self._check(answer.error_code)
        partitions = decode_assignment(answer.assignment)
        if strange := [str(p) for p in partitions if p.topic not in self._topics]:
            raise Corrupt(
                f"group {self._group!r} assigns {strange[0]}, which this member does not subscribe to"
            )
        assert self._joining is not None
        self._disconnect()
        self._generation, self._partitions = self._joining, partitions
        self._state = _State.MEMBER
        self._heartbeats.begin(self._generation)
        return Joined(self._generation, partitions)

    def _check_place(self, until: float) -> Left | None:
        verdict = self._heartbeats.verdict()
        if verdict is Verdict.HOLDS and self._topics_changed():
            verdict = Verdict.REBALANCE
        if verdict is Verdict.HOLDS:
            return None
        partitions = self._partitions
        if verdict is Verdict.REBALANCE:
            self._state = _State.GOING
            return Left(partitions, lost=False)
        self._start_over()
        if verdict is Verdict.FENCED:
            raise Fenced(f"group {self._group!r}: another process has joined as {self._instance_id!r}")
        if verdict is Verdict.UNKNOWN_MEMBER:
            self._member_id = ""
        return Left(partitions, lost=True)

    def _go(self, until: float) -> None:
        self._start_over()

    _STEPS: Mapping[_State, Callable[["Group", float], Joined | Left | None]] = {
        _State.OUT: _join,
        _State.JOINING: _take_join,
        _State.SYNCING: _take_sync,
        _State.MEMBER: _check_place,
        _State.GOING: _go,
    }

    def _answer(self, until: float) -> Any:
        assert self._connection is not None
        got = self._connection.receive(max(until - self._cluster.clock.monotonic(), 0))
        return None if got is None else got[1]

    def _must_join_again(self, code: int) -> bool:
        """True (and OUT) for answers after which joining once more, at once, is the protocol's way."""
        if code in _START_OVER:
            self._member_id = ""
        elif code != ErrorCode.rebalance_in_progress:
            return False
        self._start_over()
        return True

    def _check(self, code: int) -> None:
        place = f"joining group {self._group!r}"
        if code == ErrorCode.inconsistent_group_protocol:
            raise Refused(
                code, f"{place}: its members use none of the assignors {', '.join(self._assignors)}"
            )
        if code == ErrorCode.fenced_instance_id:
            raise Fenced(f"{place}: another process has joined as {self._instance_id!r}")
        if code == ErrorCode.group_max_size_reached:
            raise Retry(str(error_for(code, place)), after=5.0)
        try:
            raise_for(code, place)
        except Retry:
            self._cluster.forget_coordinator("group", self._group)
            raise

    def _assign(self, protocol: str, entries: Sequence[Any]) -> list[dict[str, Any]]:
        """The leader's part: what each member gets, in the shape of SyncGroup."""
        assign = _ASSIGNORS.get(protocol)
        if assign is None:
            raise Corrupt(
                f"group {self._group!r} has chosen the assignor {protocol!r}, which was not offered"
            )
        members = [
            Member(
                entry.member_id,
                getattr(entry, "group_instance_id", None),
                decode_subscription(entry.metadata),
            )
            for entry in entries
        ]
        self._watched = self._look({topic for member in members for topic in member.topics})
        self._watch_at = self._next_watch()
        counts = {name: count for name, (_, count) in self._watched.items() if count}
        return [
            {"member_id": member_id, "assignment": encode_assignment(partitions)}
            for member_id, partitions in assign(members, counts).items()
        ]

    def _look(self, topics: set[str]) -> Mapping[str, tuple[str | None, int]]:
        """(id, number of partitions) of each topic; (None, 0) where there is none."""
        found = self._cluster.topics(topics)
        return {
            name: (found[name].id, len(found[name].partitions)) if name in found else (None, 0)
            for name in topics
        }

    def _next_watch(self) -> float:
        assert self._watched is not None
        missing = any(count == 0 for _, count in self._watched.values())
        return self._cluster.clock.monotonic() + (_WATCH_MISSING_EVERY if missing else _WATCH_EVERY)

    def _topics_changed(self) -> bool:
        """True when the leader sees other topics or partitions than it assigned."""
        if self._watched is None or self._cluster.clock.monotonic() < self._watch_at:
            return False
        self._watch_at = self._next_watch()
        try:
            return self._look(set(self._watched)) != self._watched
        except Retry:
            # Whether the brokers can be reached is for the heartbeats and the fetcher to say.
            return False

    def _start_over(self) -> None:
        """No request out, no place held; the member id stays."""
        self._heartbeats.pause()
        self._disconnect()
        if self._generation is not None:
            self._generation.retire()
            self._generation = None
        self._joining = None
        self._partitions = ()
        self._state = _State.OUT

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
