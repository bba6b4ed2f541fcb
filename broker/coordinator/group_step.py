"""One decision about a group: what it is afterwards, what to persist, whom to answer, which deadlines."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tailrace.broker.coordinator.group import Group, GroupState, Member
from tailrace.broker.coordinator.moment import Moment


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """Bounds and delays, in ms. The defaults are Kafka's but for these:

    initial_delay   Kafka waits 3 s for the other members of a new group; agents of one supervisor start
                    within 200 ms of each other, and a pipeline that runs once should not idle.
    max_members     Kafka sets no bound to these; a broker that shares a machine with its clients needs one.
    max_bytes
    """

    initial_delay: int = 200
    min_session: int = 6_000
    max_session: int = 1_800_000
    new_member_join: int = 300_000
    max_members: int = 1_000
    max_bytes: int = 32 * 2**20
    """Bytes that members of all groups may make us keep: their protocols' metadata, and assignments."""
    max_metadata: int = 4_096
    """Characters (UTF-16, as Java counts) of the text that a client may leave with a committed offset."""
    retention: int = 7 * 86_400_000
    retention_check: int = 600_000


@dataclass(frozen=True, slots=True)
class Timer:
    """A deadline: `join` and `sync` for the whole group, `session` and `pending` for one member."""

    kind: str
    group_id: str
    member_id: str = ""


@dataclass(slots=True)
class GroupStep:
    """A decision while it is made; the rules change `group` by replacing it.

    The driver appends the records first. When that fails the step is dropped and only the request that caused
    it hears of it: everybody else waits on as before. When it succeeds the coordinator takes `group` and
    `timers` over, and the answers go out once the records are on disk.
    """

    group: Group
    now: Moment
    limits: GroupLimits
    store: bool = False
    """The group's metadata must be persisted as it is after the step."""
    answers: list[tuple[int, Any]] = field(default_factory=list)
    timers: dict[Timer, int | None] = field(default_factory=dict)
    records: Sequence[tuple[bytes, bytes | None]] = ()

    def answer(self, ticket: int | None, answer: object) -> None:
        if ticket is not None:
            self.answers.append((ticket, answer))

    def set_timer(self, kind: str, delay: int | None, member_id: str = "") -> None:
        """Due in `delay` ms from now; None takes the timer away."""
        due = None if delay is None else self.now.steady + delay
        self.timers[Timer(kind, self.group.group_id, member_id)] = due

    def expect_heartbeat(self, member: Member) -> None:
        """The member lives as of now; it has its session time-out to show so again."""
        self.set_timer("session", member.session_timeout, member.member_id)

    def enter(self, state: GroupState) -> None:
        self.group = replace(self.group, state=state, since=self.now.wall)
