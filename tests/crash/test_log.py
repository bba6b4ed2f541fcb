"""The broker's log after SIGKILL at every failpoint and after power cuts: nothing lost that was answered for,
nothing invented.
"""

import signal
from pathlib import Path

import pytest

from tailrace.broker.log.store import LogStore
from tailrace.clock import ManualClock
from tailrace.fs import LocalFileSystem
from tests.support.forked import run_forked
from tests.support.log_history import DEFAULTS, Driver, Model
from tests.support.powercut import PowerCut, PowerCutFileSystem
from tests.support.ramdisk import ramdisk
from tests.support.source_places import failpoints


def power_cut_history(
    directory: Path, seed: int, *, rounds: int = 3, steps: int = 40, leave_out=None
) -> None:
    """Rounds of random work, each ended by a power cut at a random call; all promises are checked after each."""
    directory.mkdir()
    fs = PowerCutFileSystem(str(directory), seed=seed, leave_out=leave_out)
    model = Model()
    for turn in range(rounds):
        fs.cut_at = fs.random.randint(1, 900)
        driver = None
        try:
            driver = Driver(str(directory / "data"), fs, seed * 31 + turn, model.report, f"r{turn}.")
            driver.run(steps)
            if fs.random.random() < 0.5:
                driver.close()
        except PowerCut:
            pass
        fs.cut_at = None
        fs.dark = True
        if driver is not None:
            driver.store.abandon()
        fs.cut(lucky=fs.random.random() < 0.7)
        store = LogStore(str(directory / "data"), fs=fs, clock=ManualClock(), defaults=DEFAULTS)
        store.open()
        try:
            model.check(store, kept="durable")
        finally:
            store.abandon()


@pytest.mark.parametrize("seed", range(60))
def test_power_cuts_lose_nothing_durable(seed):
    with ramdisk() as root:
        power_cut_history(root / "d", seed)


def run_child(directory: Path, seed: int, steps: int, armed: str, model: Model, tag: str) -> int:
    """Runs the driver in a process of its own; feeds its reports to the model; answers its exit status."""

    def work(say) -> None:
        Driver(str(directory), LocalFileSystem(), seed, say, tag).run(steps)

    ended = run_forked(work, armed)
    for what, *rest in ended.reports:
        model.report(what, *rest)
    assert ended.status in (0, -signal.SIGKILL)
    return ended.status


@pytest.mark.parametrize("killed_at", failpoints("broker/log"))
def test_sigkill_at_every_failpoint_loses_nothing(killed_at):
    with ramdisk() as root:
        for seed in range(40):
            directory = root / str(seed)
            model = Model()
            if run_child(directory, seed, 250, f"{killed_at}=kill@{1 + seed % 3}", model, "a") == 0:
                continue
            check(directory, model)
            assert run_child(directory, seed + 1000, 30, "", model, "b") == 0
            check(directory, model)
            return
    pytest.fail(f"no history passed {killed_at}")


def check(directory: Path, model: Model) -> None:
    store = LogStore(str(directory), fs=LocalFileSystem(), clock=ManualClock(), defaults=DEFAULTS)
    store.open()
    try:
        model.check(store, kept="appended")
    finally:
        store.abandon()
