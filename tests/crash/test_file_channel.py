"""The file channel after SIGKILL at every failpoint and after power cuts: each row reaches the sink exactly once."""

import signal
from pathlib import Path

import pytest

from tailrace.channels.file import FileChannel, FileChannelSettings
from tailrace.clock import ManualClock
from tailrace.component import Context
from tailrace.fs import FileSystem, LocalFileSystem
from tests.support.channel_history import Driver, Model
from tests.support.forked import run_forked
from tests.support.powercut import PowerCut, PowerCutFileSystem
from tests.support.ramdisk import ramdisk
from tests.support.source_places import failpoints

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


def power_cut_history(
    directory: Path, seed: int, *, rounds: int = 3, steps: int = 60, leave_out=None
) -> None:
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
def test_power_cuts_lose_and_double_nothing(seed):
    with ramdisk() as root:
        power_cut_history(root / "d", seed)


def run_child(directory: Path, seed: int, steps: int, armed: str, model: Model) -> int:
    def work(say) -> None:
        driver = Driver(str(directory), LocalFileSystem(), seed, say, model.sink_position)
        driver.run(steps)
        driver.channel.close()

    ended = run_forked(work, armed)
    for report in ended.reports:
        model.report(*report)
    assert ended.status in (0, -signal.SIGKILL)
    return ended.status


@pytest.mark.parametrize("killed_at", failpoints("channels") + OF_THE_LOG)
def test_sigkill_at_every_failpoint_loses_and_doubles_nothing(killed_at):
    with ramdisk() as root:
        for seed in range(10):
            directory = root / str(seed)
            directory.mkdir()
            model = Model()
            if run_child(directory, seed, 200, f"{killed_at}=kill@{1 + seed % 2}", model) == 0:
                continue
            for again in (1, 2):
                channel = reopened(directory, LocalFileSystem())
                model.check(channel)
                channel.close()
                assert run_child(directory, seed + 100 * again, 30, "", model) == 0
            return
    pytest.fail(f"no history passed {killed_at}")
