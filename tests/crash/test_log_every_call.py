"""Short histories of the log store with the power cut at each single call that changes the disk."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tailrace.broker.log.store import LogStore
from tailrace.clock import ManualClock
from tailrace.failpoint import arm
from tests.support.batches import keyed, marker, numbered, plain
from tests.support.log_history import COMPACT, DEFAULTS, Model
from tests.support.powercut import PowerCut, PowerCutFileSystem
from tests.support.ramdisk import ramdisk


class Told:
    """A store whose verbs tell the model what was tried and answered."""

    first_call = 1

    def __init__(self, store: LogStore, model: Model, fs: PowerCutFileSystem) -> None:
        self.store = store
        self.say = model.report
        self._fs = fs

    def cut_from_here(self) -> None:
        """Cuts before this are another scenario's."""
        Told.first_call = self._fs.calls

    def create(self, name: str) -> None:
        self.say("create", name, name.endswith("c"))
        self.store.create(name, 1, COMPACT if name.endswith("c") else {})
        self.say("created", name)

    def delete(self, name: str) -> None:
        self.say("delete", name)
        self.store.delete(name)
        self.say("deleted", name)

    def append(self, name: str, batch: bytearray, rows, control: bool = False) -> None:
        self.say("append", name, rows)
        self.say("appended", name, self.store.log(name, 0).append(batch, control=control).first_offset)

    def plain(self, name: str, *values: str) -> None:
        self.append(name, plain(*(v.encode() for v in values)), [("", v) for v in values])

    def keyed(self, name: str, *pairs: tuple[str, str]) -> None:
        self.append(name, keyed([(k.encode(), v.encode()) for k, v in pairs]), list(pairs))

    def transaction(self, name: str, sequence: int, value: str, commit: bool) -> None:
        self.append(name, numbered(5, 0, sequence, value.encode(), transactional=True), [("", value)])
        self.append(name, marker(5, 0, commit), [("", "commit" if commit else "abort")], control=True)

    def flush(self, name: str) -> None:
        self.say("flushed", name, self.store.log(name, 0).flush())

    def trim(self, name: str, offset: int) -> None:
        self.say("start", name, offset)
        self.say("started", name, self.store.log(name, 0).delete_before(offset))

    def close(self) -> None:
        self.store.close()
        for name, topic in self.store.topics().items():
            self.say("flushed", name, topic.partitions[0].leo)


def topics_come_and_go(told: Told, again: Callable[[], Told]) -> None:
    told.create("a")
    told.plain("a", "x" * 50, "y" * 50)
    told.flush("a")
    told.create("b")
    told.delete("a")
    told.store.housekeeping()
    told.create("a")
    told.plain("a", "z")
    told.flush("a")
    told.delete("b")
    told.store.abandon()
    told = again()
    told.delete("a")
    told.create("a")


def a_deletion_fails_half_way(told: Told, again: Callable[[], Told]) -> None:
    def in_housekeeping() -> Told:
        told.store.housekeeping()
        return told

    def at_the_next_start() -> Told:
        told.store.abandon()
        return again()

    for finish in (in_housekeeping, at_the_next_start):
        told.create("a")
        told.plain("a", "x")
        told.flush("a")
        told.cut_from_here()
        arm("store.delete_catalogued=error@1-1")
        told.say("delete", "a")
        try:
            told.store.delete("a")
        except OSError:
            pass
        told = finish()
        told.say("deleted", "a")


def a_topic_is_compacted(told: Told, again: Callable[[], Told]) -> None:
    told.create("c")
    for i in range(7):
        told.keyed("c", (f"k{i % 2}", f"{i}" * 90), (f"once{i}", "v" * 10))
    told.flush("c")
    told.store.housekeeping()
    told.cut_from_here()
    told.keyed("c", ("k1", "again" * 40))
    told.keyed("c", ("k2", "again" * 40))
    told.flush("c")
    told.store.housekeeping()
    told.plain("c", "end")


def a_clean_stop_and_a_start(told: Told, again: Callable[[], Told]) -> None:
    told.create("a")
    for i in range(4):
        told.transaction("a", i, f"{i}" * 80, commit=i % 2 == 0)
    told.close()
    told = again()
    told.transaction("a", 4, "more", commit=False)
    told.flush("a")
    told.plain("a", "end")
    told.transaction("a", 5, "last", commit=False)
    told.close()


def a_crash_and_then_the_power(told: Told, again: Callable[[], Told]) -> None:
    told.create("a")
    for i in range(24):
        told.plain("a", *[f"{i}"] * (1 + i % 3))
    told.store.abandon()
    told = again()
    told.plain("a", "x" * 500)
    told.plain("a", "y" * 500)
    told.flush("a")
    told.store.checkpoint()


def segments_roll_and_are_trimmed(told: Told, again: Callable[[], Told]) -> None:
    told.create("a")
    for i in range(14):
        told.plain("a", f"{i}" * 80)
        if i % 4 == 3:
            told.flush("a")
    told.trim("a", 9)
    told.store.checkpoint()
    told.plain("a", "end")
    told.store.abandon()
    told = again()
    told.trim("a", told.store.log("a", 0).leo)


SCENARIOS = {
    topics_come_and_go: (1, 1),
    a_deletion_fails_half_way: (5, 1),
    a_topic_is_compacted: (4, 1),
    a_clean_stop_and_a_start: (1, 60),
    a_crash_and_then_the_power: (1, 20),
    segments_roll_and_are_trimmed: (1, 1),
}
"""And how many lucky cuts there are beside the strict one: at each call, and when all is done."""


def cut_at(directory: Path, scenario, call: int | None, seed: int | None, leave_out=None) -> int | None:
    """Runs until call number `call` and cuts; seed None: only what was synced stays. Answers the calls of a
    whole run.
    """
    directory.mkdir()
    fs = PowerCutFileSystem(str(directory), seed=seed or 0, cut_at=call, leave_out=leave_out)
    model = Model()
    clock = ManualClock()

    def opened() -> Told:
        store = LogStore(str(directory / "data"), fs=fs, clock=clock, defaults=DEFAULTS)
        store.open()
        for name, topic in store.topics().items():
            if name in model.topics:
                model.report("reopened", name, topic.partitions[0].leo)
        return Told(store, model, fs)

    stopped_cleanly = False
    arm("")
    try:
        scenario(opened(), opened)
        stopped_cleanly = scenario is a_clean_stop_and_a_start
    except PowerCut:
        pass
    calls = fs.calls
    fs.cut_at, fs.dark = None, True
    fs.cut(lucky=seed is not None)
    store = LogStore(str(directory / "data"), fs=fs, clock=ManualClock(), defaults=DEFAULTS)
    store.open()
    model.check(store, kept="durable")
    assert not (stopped_cleanly and store.unclean), "a clean stop was forgotten"
    store.housekeeping()  # which believes the time indexes
    model.check(store, kept="appended")
    store.close()
    return calls


def cut_everywhere(directory: Path, scenario, leave_out=None) -> None:
    directory.mkdir(exist_ok=True)
    calls = cut_when_done(directory / "done", scenario, leave_out)
    for call in range(Told.first_call, calls + 1):
        for seed in [None, *range(SCENARIOS[scenario][0])]:
            cut_at(
                directory / f"{call}-{seed}",
                scenario,
                call,
                None if seed is None else seed * 1009 + call,
                leave_out,
            )


def cut_when_done(directory: Path, scenario, leave_out=None) -> int:
    """Cuts after the whole scenario; answers its calls."""
    directory.mkdir(exist_ok=True)
    Told.first_call = 1
    calls = cut_at(directory / "strict", scenario, None, None, leave_out)
    for seed in range(SCENARIOS[scenario][1]):
        cut_at(directory / str(seed), scenario, None, seed, leave_out)
    return calls


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_power_is_cut_at_every_call(scenario):
    with ramdisk() as root:
        cut_everywhere(root / "d", scenario)
