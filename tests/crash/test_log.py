"""The broker's log after SIGKILL at every failpoint and after power cuts: nothing lost that was answered for, nothing invented."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tailrace.broker.log.store import LogStore
from tailrace.clock import ManualClock
from tailrace.fs import LocalFileSystem
from tests.support.log_history import DEFAULTS, Driver, Model
from tests.support.powercut import PowerCut, PowerCutFileSystem

ROOT = Path(__file__).parents[2]
NAMES = sorted(
    {
        name
        for path in (ROOT / "broker" / "log").glob("*.py")
        for name in re.findall(r'failpoint\("([a-z_.]+)"\)', path.read_text())
    }
)


def power_cut_history(directory: Path, seed: int, *, rounds: int = 3, steps: int = 40, leave_out=None) -> None:
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
def test_power_cuts_lose_nothing_durable(tmp_path, seed):
    power_cut_history(tmp_path / "d", seed)


def run_child(directory: Path, seed: int, steps: int, failpoints: str, model: Model, tag: str) -> int:
    """Runs the driver in a process of its own; feeds its reports to the model; answers its return code."""
    child = subprocess.run(
        [sys.executable, "-m", "tests.support.log_history", str(directory), str(seed), str(steps), tag],
        env={**os.environ, "TAILRACE_FAILPOINTS": failpoints},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        timeout=60,
    )
    for line in child.stdout.decode().splitlines():
        what, *rest = json.loads(line)
        if what != "end":
            model.report(what, *rest)
    if child.returncode not in (0, -signal.SIGKILL):
        pytest.fail(child.stderr.decode())
    return child.returncode


@pytest.mark.parametrize("name", NAMES)
def test_sigkill_at_every_failpoint_loses_nothing(tmp_path, name):
    for seed in range(12):
        directory = tmp_path / str(seed)
        model = Model()
        times = 1 + seed % 3
        if run_child(directory, seed, 250, f"{name}=kill@{times}", model, "a") == 0:
            continue
        check(directory, model)
        assert run_child(directory, seed + 1000, 30, "", model, "b") == 0
        check(directory, model)
        return
    pytest.fail(f"no history passed {name}")


def check(directory: Path, model: Model) -> None:
    store = LogStore(str(directory), fs=LocalFileSystem(), clock=ManualClock(), defaults=DEFAULTS)
    store.open()
    try:
        model.check(store, kept="appended")
    finally:
        store.abandon()
