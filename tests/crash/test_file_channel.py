"""The file channel after SIGKILL at every failpoint and after power cuts: each row reaches the sink exactly once."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tailrace.channels.file import FileChannel, FileChannelSettings
from tailrace.clock import ManualClock
from tailrace.component import Context
from tailrace.fs import FileSystem, LocalFileSystem
from tests.support.channel_history import Driver, Model
from tests.support.powercut import PowerCut, PowerCutFileSystem

ROOT = Path(__file__).parents[2]
OWN = re.findall(r'failpoint\("([a-z_.]+)"\)', (ROOT / "channels" / "file.py").read_text())
OF_THE_LOG = [
    "log.append_before_write", "log.append_after_write", "log.flush_before_sync", "log.flush_after_sync",
    "log.roll_before_indexes", "log.roll_before_create", "log.roll_after_create", "log.delete_before_unlink",
    "log.delete_unlinked", "log.recover_created", "log.recover_synced",
]  # fmt: skip


def reopened(directory: Path, fs: FileSystem) -> FileChannel:
    settings = FileChannelSettings(type="file", path=f"{directory}/deep/channel", segment=2**16, min_free=0)
    channel = FileChannel(settings, Context("p", "a", "c1", "0" * 32, directory, clock=ManualClock(), fs=fs))
    channel.open()
    return channel


def power_cut_history(directory: Path, seed: int, *, rounds: int = 3, steps: int = 60, leave_out=None) -> None:
    """Rounds of random work, each ended by a power cut at a random call; all promises are checked after each."""
    directory.mkdir()
    fs = PowerCutFileSystem(str(directory), seed=seed, leave_out=leave_out)
    model = Model()
    for turn in range(rounds):
        fs.cut_at = fs.random.randint(1, 400)
        try:
            Driver(str(directory), fs, seed * 31 + turn, model.report, model.sink_position).run(steps)
        except PowerCut:
            pass
        fs.cut_at = None
        fs.dark = True
        fs.cut(lucky=fs.random.random() < 0.7)
        channel = reopened(directory, fs)
        model.check(channel)
        channel.close()


@pytest.mark.parametrize("seed", range(60))
def test_power_cuts_lose_and_double_nothing(tmp_path, seed):
    power_cut_history(tmp_path / "d", seed)


def run_child(directory: Path, seed: int, steps: int, failpoints: str, model: Model) -> int:
    child = subprocess.run(
        [
            sys.executable, "-m", "tests.support.channel_history",
            str(directory), str(seed), str(steps), json.dumps(model.sink_position),
        ],
        env={**os.environ, "TAILRACE_FAILPOINTS": failpoints},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        timeout=60,
    )  # fmt: skip
    for line in child.stdout.decode().splitlines():
        model.report(*json.loads(line))
    if child.returncode not in (0, -signal.SIGKILL):
        pytest.fail(child.stderr.decode())
    return child.returncode


@pytest.mark.parametrize("name", OWN + OF_THE_LOG)
def test_sigkill_at_every_failpoint_loses_and_doubles_nothing(tmp_path, name):
    for seed in range(6):
        directory = tmp_path / str(seed)
        directory.mkdir()
        model = Model()
        if run_child(directory, seed, 200, f"{name}=kill@{1 + seed % 2}", model) == 0:
            continue
        for again in (1, 2):
            channel = reopened(directory, LocalFileSystem())
            model.check(channel)
            channel.close()
            assert run_child(directory, seed + 100 * again, 30, "", model) == 0
        return
    pytest.fail(f"no history passed {name}")
