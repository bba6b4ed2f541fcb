"""Transactions on a disk that loses its power, and in a process that is gone between two steps."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.powercut import PowerCut, PowerCutFileSystem
from tests.support.txn_history import Coordinators, Model


def run(main):
    """asyncio.run, deaf to what tasks of a dead broker leave behind."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda loop, context: None)
        return runner.run(main)


async def live(directory: Path, fs: PowerCutFileSystem, model: Model, seed: int, steps: int) -> None:
    """One life, ended by the power cut if there is one on the way, else by a kill at a random moment."""
    coordinators = None
    try:
        coordinators = Coordinators(str(directory / "data"), fs, model, seed)
        await coordinators.load()
        work = asyncio.ensure_future(coordinators.work(steps))
        end = asyncio.get_running_loop().time() + (10.0 if fs.cut_at else fs.random.random() * 0.15)
        while not (work.done() or fs.dark) and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.002)
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work
    except (PowerCut, AssertionError):
        if not fs.dark:
            raise
    finally:
        fs.dark = True
        if coordinators is not None:
            await coordinators.abandon()


async def inspect(directory: Path, fs: PowerCutFileSystem, model: Model, seed: int) -> None:
    """The next life begins, settles what the last one left, and is checked."""
    coordinators = Coordinators(str(directory / "data"), fs, model, seed)
    await coordinators.load()
    await coordinators.settle()
    await coordinators.check()
    await coordinators.abandon()


def history(directory: Path, seed: int, *, rounds: int = 3, leave_out=None) -> None:
    directory.mkdir()
    fs = PowerCutFileSystem(str(directory), seed=seed, leave_out=leave_out)
    model = Model()
    for turn in range(rounds):
        cuts = fs.random.random() < 0.7
        fs.cut_at = fs.random.randint(60 if turn == 0 else 10, 500) if cuts else None
        run(live(directory, fs, model, seed * 10 + turn, steps=12))
        if cuts:
            fs.cut(lucky=fs.random.random() < 0.6)
        fs.dark, fs.cut_at = False, None
        run(inspect(directory, fs, model, seed))


@pytest.mark.parametrize("seed", range(12))
def test_transactions_are_whole_or_not_at_all(tmp_path: Path, seed: int) -> None:
    history(tmp_path / "d", seed)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_many_more_histories(tmp_path: Path) -> None:
    for seed in range(1000, 2000):
        history(tmp_path / str(seed), seed)
