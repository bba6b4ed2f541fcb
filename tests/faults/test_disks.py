"""Full and failing disks under each part: told with the place, retried, and each line lands once."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import World
from tests.support.running import eventually

Fill = Callable[[Path], Path]


@pytest.mark.parametrize("part", ["broker", "lake", "state"])
def test_a_full_disk_holds_lines_back_until_there_is_room(
    world: World, small_disk: Path, fill: Fill, part: str
) -> None:
    """state: the ledger is in it."""
    setattr(world, part, small_disk / part)
    world.write("a.log", 200)
    run = world.start()
    world.all_land()
    ballast = fill(small_disk)
    world.write("a.log", 20_000)
    told = run.logged(r"(?i)no space left|must be free|disk is full")
    assert str(small_disk) in run.log, told
    lines = len(run.log.splitlines())
    ballast.unlink()
    world.all_land()
    assert lines < 200, "told again and again"


def test_a_broker_that_cannot_sync_is_started_anew(world: World) -> None:
    """A page that failed to be written may be gone from the cache: the process ends, and reads its log again."""
    world.failpoints = "log.flush_before_sync=error@40"
    run = world.start()

    def fails() -> bool:
        world.write("a.log", 20)
        return "the broker has failed" in run.log

    eventually(fails, lambda: run.log, every=0.1)
    assert re.search("the broker has failed.*status=74", run.log)
    world.all_land()
