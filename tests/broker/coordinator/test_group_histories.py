"""Random histories of groups: clients that stall and come back, lost and late messages, full disks, crashes.

Whatever the order, a generation has one assignment, a partition one owner in it, and what an owner of an
older generation commits is refused once a newer one is out. When the faults end, the group becomes stable.
"""

import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from tailrace.broker.coordinator.commit import CommitRequest
from tailrace.broker.coordinator.group import GroupState
from tailrace.broker.coordinator.group_messages import Joined, JoinRequest, LeaveRequest, Synced, SyncRequest
from tailrace.broker.wire.errors import ErrorCode
from tests.support.group_world import GroupWorld

PARTITIONS = 6


@dataclass
class Client:
    """A consumer as the protocol has it: joins, syncs, heartbeats, commits what it owns."""

    name: str
    instance: str | None
    version: int
    member_id: str = ""
    generation: int = -1
    phase: str = "out"
    owned: list[int] = field(default_factory=list)
    last_request: int = -1
    sent_at: int = 0


class History:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = GroupWorld()
        self.clients = [
            Client(f"c{i}", self.random.choice([None, None, f"i{i}"]), self.random.choice([3, 5, 9]))
            for i in range(4)
        ]
        # A second life of the same static member, to be fenced or to fence.
        self.clients.append(Client("twin", self.clients[0].instance or "i0", 9))
        self.requests: deque = deque()
        self.late: list = []
        self.tickets: dict[int, Client] = {}
        self.answered: set[int] = set()
        self.serial = 0
        self.nonces: dict[int, set[str]] = {}
        self.owners: dict[tuple[int, int], str] = {}
        self.newest = 0
        self.committed: dict[tuple[str, int], int] = {}
        self.seen_answers = 0
        self.faults = True

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
        self.faults = False
        self.clients.pop()
        for _ in range(160):
            for client in self.clients:
                self.act(client)
            while self.requests:
                self.deliver(0)
            self.world.advance(1000)
            self.read_answers()
        self.settle()

    def step(self) -> None:
        roll = self.random.random()
        if roll < 0.45:
            self.act(self.random.choice(self.clients))
        elif roll < 0.85 and self.requests:
            self.deliver(self.random.randrange(len(self.requests)) if self.random.random() < 0.3 else 0)
        elif roll < 0.92:
            self.world.advance(self.random.choice([10, 10, 100, 200, 1000, 1000, 3000, 11_000]))
        elif roll < 0.95 and self.late:
            self.commit(*self.late.pop(self.random.randrange(len(self.late))))
        elif roll < 0.96:
            self.world.fail_next = True
        elif roll < 0.963:
            self.world.crash()
            self.tickets.clear()
        elif roll < 0.97 and self.requests:
            self.requests.popleft()
        elif roll < 0.98:
            client = self.random.choice(self.clients)
            client.phase, client.member_id = "out", client.member_id if self.random.random() < 0.5 else ""
        self.read_answers()
        self.check_offsets()

    def act(self, client: Client) -> None:
        """What this client would do next; one that waits gives up at times, and asks again."""
        waiting = client.phase in ("joining", "syncing")
        if waiting and self.world.now.steady - client.sent_at < 12_000:
            return
        if client.phase == "joined-leader" or client.phase == "joined":
            self.send("sync", client)
        elif client.phase == "member":
            self.send(
                self.random.choices(["heartbeat", "commit", "leave"], [5, 5, 1 if self.faults else 0])[0],
                client,
            )
        else:
            self.send("join", client)

    def send(self, verb: str, client: Client) -> None:
        self.serial += 1
        client.sent_at = self.world.now.steady
        shares = self.assignment(client) if client.phase == "joined-leader" else []
        if verb == "join":
            client.phase = "joining"
        elif verb == "sync":
            client.phase = "syncing"
        client.last_request = self.serial
        owned = [self.random.choice(client.owned)] if client.owned else []
        self.requests.append((verb, self.serial, client, client.member_id, client.generation, shares, owned))

    def assignment(self, client: Client) -> list[tuple[str, bytes]]:
        nonce = f"{self.serial}"
        shares: dict[str, list[int]] = {member: [] for member in client.members}
        for partition in range(PARTITIONS):
            shares[client.members[partition % len(client.members)]].append(partition)
        return [(m, f"{nonce}:{','.join(map(str, p))}".encode()) for m, p in shares.items()]

    def deliver(self, index: int) -> None:
        verb, ticket, client, member_id, generation, shares, owned = self.requests[index]
        del self.requests[index]
        if verb == "join":
            self.tickets[ticket] = client
            protocols = (("range", client.name.encode()), ("rr", b""))
            request = JoinRequest(
                "g",
                member_id,
                client.instance,
                client.name,
                "/127.0.0.1",
                10_000,
                20_000,
                "consumer",
                protocols,
                f"{client.name}-{ticket}",
                client.version >= 4,
                client.version >= 9,
            )
            self.world.join(request, ticket)
        elif verb == "sync":
            self.tickets[ticket] = client
            self.world.sync(SyncRequest("g", member_id, client.instance, generation, shares), ticket)
        elif verb == "leave":
            self.world.leave(LeaveRequest("g", [(member_id, client.instance)]), 0)
            client.phase, client.member_id, client.owned = "out", "", []
        elif verb == "heartbeat":
            error = self.world.heartbeat("g", member_id, client.instance, generation)
            if ticket == client.last_request:
                self.react(client, error)
        elif self.random.random() < 0.2:
            self.late.append((client, member_id, generation, owned))
        else:
            self.commit(client, member_id, generation, owned)

    def commit(self, client: Client, member_id: str, generation: int, owned: list[int]) -> None:
        places = {("t", p): (self.random.randrange(1 << 40), -1, "") for p in owned}
        errors = self.world.commit(CommitRequest("g", member_id, client.instance, generation, places))
        for place, error in errors.items():
            if error is ErrorCode.none:
                assert generation >= self.newest, "a zombie's commit was accepted"
                assert self.owners[generation, place[1]] == member_id, (
                    "somebody else's partition was committed"
                )
                self.committed[place] = places[place][0]
            elif member_id == client.member_id:
                self.react(client, error)

    def react(self, client: Client, error: ErrorCode) -> None:
        if error in (ErrorCode.unknown_member_id, ErrorCode.fenced_instance_id):
            client.member_id = ""
        if error not in (ErrorCode.none, ErrorCode.coordinator_not_available):
            client.phase, client.owned = "out", []

    def read_answers(self) -> None:
        for ticket, answer in self.world.answers[self.seen_answers :]:
            if ticket == 0:
                continue
            assert ticket not in self.answered, "answered twice"
            self.answered.add(ticket)
            client = self.tickets.pop(ticket, None)
            if isinstance(answer, Synced) and answer.error is ErrorCode.none:
                self.check_share(answer)
            if client is not None and ticket == client.last_request:
                self.take_answer(client, answer)
        self.seen_answers = len(self.world.answers)

    def take_answer(self, client: Client, answer: object) -> None:
        if isinstance(answer, Joined) and answer.error is ErrorCode.none:
            client.member_id, client.generation = answer.member_id, answer.generation
            leads = answer.leader == answer.member_id and not answer.skip_assignment
            client.phase = "joined-leader" if leads else "joined"
            client.members = [m.member_id for m in answer.members]
            assert not leads or client.member_id in client.members
        elif isinstance(answer, Joined) and answer.error is ErrorCode.member_id_required:
            client.member_id, client.phase = answer.member_id, "out"
        elif isinstance(answer, Synced) and answer.error is ErrorCode.none:
            share = answer.assignment.decode().partition(":")[2]
            client.owned = [int(p) for p in share.split(",") if p]
            client.phase = "member"
            for partition in client.owned:
                owner = self.owners.setdefault((client.generation, partition), client.member_id)
                same_place = client.instance is not None
                assert owner == client.member_id or same_place, "two owners in one generation"
                self.owners[client.generation, partition] = client.member_id
        elif isinstance(answer, ErrorCode):
            client.phase = "out"
        else:
            self.react(client, answer.error)

    def check_share(self, answer: Synced) -> None:
        """All shares that a generation's members are told come from one assignment."""
        generation = self.world.coordinator.group("g").generation
        nonce = answer.assignment.decode().partition(":")[0]
        if nonce:
            self.newest = max(self.newest, generation)
            self.nonces.setdefault(generation, set()).add(nonce)
            assert len(self.nonces[generation]) == 1, "two assignments in one generation"

    def check_offsets(self) -> None:
        stored = {p: a.offset for p, a in self.world.coordinator.fetch("g", None, require_stable=False)}
        assert stored == self.committed

    def settle(self) -> None:
        group = self.world.coordinator.group("g")
        assert group.state is GroupState.STABLE, group.state
        assert sorted(m.client_id for m in group.members.values()) == [c.name for c in self.clients]
        owned = sorted(p for m in group.members.values() for p in _owned(m.assignment))
        assert owned == list(range(PARTITIONS))
        assert not self.tickets, "somebody was never answered"


def _owned(share: bytes) -> list[int]:
    return [int(p) for p in share.decode().partition(":")[2].split(",") if p]


@pytest.mark.parametrize("block", range(8))
def test_no_history_breaks_a_generation(block: int) -> None:
    for seed in range(block * 20, block * 20 + 20):
        try:
            History(seed).run(800)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
