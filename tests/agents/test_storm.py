"""Random faults and random deaths, many at once; whatever happens, each row ends up in each store once."""

import random
import threading
from collections.abc import Iterator

import pytest
import structlog

from tailrace.agents.runner import Runner
from tailrace.agents.wiring import WiredAgent
from tailrace.component import Assigned, Revoked
from tailrace.errors import Fenced, Halt, Retry, Rewind
from tailrace.event import EventBatch, Partition
from tests.support.agents import CLOCK, agent, agent_with_log
from tests.support.doubles import Disk, Numbers, Store, StoringSink, partition

VERBS = ("acquire", "write", "commit", "write", "commit", "open")
ROWS = 400


class Unsteady(Numbers):
    """Loses and regains partitions at random."""

    def __init__(self, partitions: list[Partition], chance: random.Random) -> None:
        super().__init__(partitions, ROWS, size=chance.randrange(1, 30))
        self.partitions = partitions
        self.chance = chance

    def read(self, timeout: float) -> EventBatch | Assigned | Revoked | None:
        if not self.changes and self.chance.random() < 0.03:
            some = tuple(p for p in self.partitions if self.chance.random() < 0.7)
            self.changes.extend([Revoked(some, lost=self.chance.random() < 0.3), Assigned(some)])
        return super().read(timeout)


def unsteady_sink(store: Store, chance: random.Random) -> StoringSink:
    sink = StoringSink(store, every=chance.randrange(1, 12))
    for _ in range(chance.randrange(6)):
        error = chance.choice(
            [Rewind("lost"), Rewind("lost"), Fenced("a rival"), Retry("away", 0.01), Retry("away", 0.01)]
        )
        sink.fail(chance.choice(VERBS[:5]), error)
    return sink


def die_after(wired: WiredAgent, seconds: float) -> None:
    """As a SIGKILL would: nothing more is committed."""
    timer = threading.Timer(seconds, wired.leave.set)
    timer.daemon = True
    timer.start()


def live(wired: WiredAgent, chance: random.Random, *, dies: bool) -> bool:
    """One life; True when all was done."""
    if dies:
        die_after(wired, chance.random() * 0.6)
    try:
        return Runner(wired, CLOCK).run(threading.Event(), 10) if not dies else _killed(wired)
    except Halt:
        return False


def _killed(wired: WiredAgent) -> bool:
    stop = threading.Event()
    threading.Thread(target=lambda: (wired.leave.wait(), stop.set()), daemon=True).start()
    return Runner(wired, CLOCK).run(stop, 0.1)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("seed", range(6))
def test_every_row_is_in_every_store_once(seed: int) -> None:
    chance = random.Random(seed)
    stores = [Store(), Store()][: chance.randrange(1, 3)]
    groups = [[partition("a"), partition("b")], [partition("c")]][: chance.randrange(1, 3)]
    for attempt in range(20):
        sources = [Unsteady(group, chance) for group in groups]
        sinks = [unsteady_sink(store, chance) for store in stores]
        if live(agent(sources, sinks), chance, dies=attempt < 4):
            break
    else:
        raise AssertionError("never done")
    for store in stores:
        assert store.rows == {p: list(range(ROWS)) for group in groups for p in group}


@pytest.mark.parametrize("seed", range(4))
def test_and_through_a_durable_channel(seed: int) -> None:
    chance = random.Random(seed)
    store, disk = Store(), Disk()
    for attempt in range(20):
        sources = [Unsteady([partition("a"), partition("b")], chance), Unsteady([partition("c")], chance)]
        if live(agent_with_log(sources, disk, unsteady_sink(store, chance)), chance, dies=attempt < 4):
            break
    else:
        raise AssertionError("never done")
    assert sorted(store.rows[disk.stream]) == sorted([*range(ROWS)] * 3)
