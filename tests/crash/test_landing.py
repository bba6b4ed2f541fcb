"""Landing under SIGKILL at every failpoint, beside zombies, after lost COMMITs and power cuts."""

import contextlib
import gc
import os
import random
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tailrace.clock import ManualClock
from tailrace.errors import Halt
from tailrace.sinks.stores.local import LocalStore
from tests.support.lander import GroupFile, Plan, drive, make_sink, spawn, wait, wait_until_stopped
from tests.support.landing_invariants import Landing, Snapshot
from tests.support.landing_stream import partitions
from tests.support.powercut import PowerCut, PowerCutFileSystem
from tests.support.source_places import failpoints

NAMES = failpoints("sinks/ledger", "sinks/parquet", "sinks/stores/local.py")
"""test_landing_hdfs.py has those of the store that needs a real HDFS."""

LOST_AND_THERE = "ledger.decide.commit_reply=error@2-2"
LOST_AND_ABSENT = "ledger.decide.commit_request=error@2-2"
WAYS = {
    # Some places are reached only after another fault: what is armed beside, and what a first lander dies of.
    "landing.before_resolve": (LOST_AND_THERE, ""),
    "landing.after_resolve": (LOST_AND_THERE, ""),
    "ledger.resolve.before_bump": (LOST_AND_ABSENT, ""),
    "ledger.resolve.before_commit": (LOST_AND_THERE, ""),
    "landing.before_discard": (LOST_AND_ABSENT, ""),
    "landing.after_discard": (LOST_AND_ABSENT, ""),
    "recover.before_publish": ("", "landing.before_publish=kill@2"),
    "recover.after_collect": ("", "landing.staged=kill@2"),
}


def plan_of(directory: Path, **changes) -> Plan:
    kind = changes.get("kind", "topic")
    settings = {} if kind == "topic" else {"path": f"{directory}/disk/lake/dt=%Y-%m-%d/hour=%H"}
    return Plan(**{"directory": directory, "root": f"{directory}/disk/lake", "settings": settings, **changes})


def landing_of(plan: Plan) -> Landing:
    def query(sql: str):
        if not (plan.directory / "ledger.db").exists():
            return []
        connection = sqlite3.connect(plan.directory / "ledger.db")
        try:
            return connection.execute(sql).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
        finally:
            connection.close()

    visible = {
        (one.partition.kind, one.partition.id, one.partition.number): {
            row.position: (row.body, row.dead) for row in one.visible.values()
        }
        for one in partitions(plan.kind, plan.seed)
    }
    return Landing(Path(plan.lake), query, visible)


def land_here(plan: Plan) -> None:
    sink = make_sink(plan, clock=ManualClock())
    try:
        drive(plan, sink)
    except Halt as error:
        pytest.fail(f"invariant 9: a rebuild would be needed: {error}")
    finally:
        sink.close()


def check_recovery(plan: Plan, before: Snapshot | None = None, landing: Landing | None = None) -> None:
    """Lands the rest, checks everything, and that to recover again changes nothing but epochs."""
    landing = landing or landing_of(plan)
    land_here(plan)
    group = GroupFile(plan.directory / "group.json").load()
    faults = landing.faults_recovered(group)
    recovered = landing.snapshot()
    if before is not None:
        faults += before.faults_after(recovered)
    land_here(plan)
    again = landing.snapshot()
    if (recovered.next, recovered.files) != (again.next, again.files):
        faults.append("invariant 8: recovering twice was not recovering once")
    check(faults + landing.faults_recovered(group))


def run_killed(plan: Plan, name: str) -> int:
    """A lander that dies at the failpoint; answers its exit code."""
    armed, first = WAYS.get(name, ("", ""))
    if first:
        assert wait(spawn(plan_with(plan, failpoints=first))) == -signal.SIGKILL
    hits = (
        1
        if name in WAYS
        or name.startswith(("ledger.acquire", "landing.after_acquire", "landing.after_recover", "recover"))
        else 2
    )
    return wait(spawn(plan_with(plan, failpoints=f"{armed};{name}=kill@{hits}")))


def plan_with(plan: Plan, **changes) -> Plan:
    return Plan(**{**plan.__dict__, **changes})


@pytest.mark.parametrize("killed_at", NAMES)
def test_sigkill_at_every_failpoint_keeps_the_nine_invariants(tmp_path, killed_at):
    for kind in ("topic", "file") if killed_at.startswith(("landing", "ledger.decide")) else ("topic",):
        kill_and_recover(plan_of(tmp_path / kind, kind=kind, seed=NAMES.index(killed_at)), killed_at)


def kill_and_recover(plan: Plan, name: str) -> None:
    assert run_killed(plan, name) == -signal.SIGKILL, f"{name} was never passed: {read(plan)}"
    landing = landing_of(plan)
    check(landing.faults_now())
    check_recovery(plan, landing.snapshot())


@pytest.mark.parametrize("passing", [1, 2, 5])
@pytest.mark.parametrize("point", ["ledger.decide.commit_reply", "ledger.decide.commit_request"])
def test_a_lost_reply_to_commit_neither_loses_nor_doubles(tmp_path, point, passing):
    plan = plan_of(tmp_path, seed=passing, failpoints=f"{point}=error@{passing}-{passing}")
    assert wait(spawn(plan)) == 0, read(plan)
    check(landing_of(plan).faults_now())
    check_recovery(plan_with(plan, failpoints=""))


ZOMBIES = [name for name in NAMES if not name.startswith("ledger") and name not in WAYS]
"""Not inside a transaction: SQLite's one writer would be the zombie."""


RIVALS = [(name, "only acquires") for name in ["ledger.decide.commit_reply", *ZOMBIES]]
RIVALS += [(name, "lands everything") for name, _ in RIVALS if name.startswith(("landing", "ledger"))]


@pytest.mark.parametrize("name, rival", RIVALS)
def test_a_zombie_that_wakes_up_beside_a_new_owner_does_no_harm(tmp_path, name, rival):
    plan = plan_of(tmp_path, seed=ZOMBIES.index(name) if name in ZOMBIES else 0)
    landing = landing_of(plan)
    stops = 1 if name.startswith(("landing.after_acquire", "landing.after_recover", "recover")) else 2
    zombie = spawn(plan_with(plan, tag="zombie", failpoints=f"{name}=stop@{stops}"))
    if not wait_until_stopped(zombie):
        pytest.fail(f"{name} was never passed: {read(plan_with(plan, tag='zombie'))}")
    died = "" if rival == "lands everything" else "landing.after_recover=kill"
    assert wait(spawn(plan_with(plan, tag="rival", failpoints=died))) == (-signal.SIGKILL if died else 0)
    check(landing.faults_now())
    before = landing.snapshot()
    os.kill(zombie.pid, signal.SIGCONT)
    assert wait(zombie) == 0, read(plan_with(plan, tag="zombie"))
    check(landing.faults_now() + before.faults_after(landing.snapshot()))
    check_recovery(plan, before)


@pytest.mark.parametrize("seed", range(5))
def test_two_landers_stopped_killed_and_woken_at_random(tmp_path, seed):
    choose = random.Random(seed)
    plan = plan_of(tmp_path, seed=seed, kind=choose.choice(["topic", "file"]))
    landing = landing_of(plan)
    asleep = []
    before = None
    for turn in range(6):
        action = choose.choice(["kill", "stop", "stop"])
        points = choose.sample(ZOMBIES, 2)
        armed = f"{points[0]}={action}@{choose.randint(1, 6)};{points[1]}=error@{choose.randint(1, 6)}-{6}"
        child = spawn(plan_with(plan, tag=str(turn), failpoints=armed))
        if wait_until_stopped(child):
            asleep.append(child)
        if asleep and choose.random() < 0.5:
            woken = asleep.pop(choose.randrange(len(asleep)))
            os.kill(woken.pid, signal.SIGCONT)
            wait(woken)
        check(landing.faults_now() + (before.faults_after(landing.snapshot()) if before else []))
        before = landing.snapshot()
    for child in asleep:
        os.kill(child.pid, signal.SIGCONT)
        wait(child)
    check_recovery(plan, before)


def test_a_reset_under_a_sleeping_lander_is_not_undone_by_it(tmp_path):
    plan = plan_of(tmp_path, seed=3)
    landing = landing_of(plan)
    sleeper = spawn(plan_with(plan, failpoints="landing.before_decide=stop@3"))
    assert wait_until_stopped(sleeper)
    sink = make_sink(plan)
    sink.open()
    stored = sink.stored()
    sink.forget(list(stored))
    sink.close()
    GroupFile(tmp_path / "group.json")
    before = landing.snapshot()
    os.kill(sleeper.pid, signal.SIGCONT)
    assert wait(sleeper) == 0, read(plan)
    landing.again = {(one.kind, one.id, one.number): record.position for one, record in stored.items()}
    check(landing.faults_now() + before.faults_after(landing.snapshot()))
    check_recovery(plan, before, landing)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", range(16))
def test_a_power_cut_anywhere_keeps_the_nine_invariants(tmp_path, seed):
    power_cuts(tmp_path, seed)


def power_cuts(directory: Path, seed: int, leave_out: Callable[[str, int], bool] | None = None) -> None:
    """Two cuts, each at a random call; after each the disk is looked at, and after the last all is landed."""
    choose = random.Random(seed)
    plan = plan_of(directory, seed=seed, kind=choose.choice(["topic", "file"]))
    disk = Path(plan.lake).parent
    disk.mkdir(parents=True)
    landing = landing_of(plan)
    before = None
    for _ in range(2):
        fs = PowerCutFileSystem(str(disk), seed=seed, leave_out=leave_out)
        fs.cut_at = choose.randint(1, 160)
        try:
            drive(plan, make_sink(plan, fs, ManualClock()))
        except PowerCut:
            pass
        except Halt as error:
            pytest.fail(f"invariant 9: a rebuild would be needed: {error}")
        fs.dark, fs.cut_at = True, None
        with contextlib.suppress(PowerCut):
            gc.collect()  # what a dead process would not have written, its writers do not write now
        fs.cut(lucky=choose.random() < 0.6)
        check(landing.faults_now() + (before.faults_after(landing.snapshot()) if before else []))
        before = landing.snapshot()
    check_recovery(plan, before)


def test_what_create_has_answered_for_survives_a_power_cut(tmp_path):
    cut_after_create(tmp_path)


def cut_after_create(directory: Path, leave_out: Callable[[str, int], bool] | None = None) -> None:
    """The root's marker stands on this: no directory is made behind it that would make it durable as well."""
    fs = PowerCutFileSystem(str(directory), leave_out=leave_out)
    store = LocalStore(fs)
    store.open(str(directory / "lake"))
    assert store.create(str(directory / "lake" / "_tailrace"), b"whose root it is")
    fs.cut()
    found = store.read(str(directory / "lake" / "_tailrace"), 100)
    check([] if found == b"whose root it is" else [f"what create() answered for is {found!r}"])


def check(faults: list[str]) -> None:
    assert not faults, "\n".join(faults)


def read(plan: Plan) -> str:
    text = plan.outcome.read_text() if plan.outcome.exists() else "(killed)"
    return f"invariant 9: a rebuild would be needed: {text}" if text.startswith("Halt") else text
