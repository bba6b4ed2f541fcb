"""Files that are not there, not yet, not readable, or hold anything but text."""

import os
from pathlib import Path

import pytest

from tests.faults.conftest import World


def test_a_pattern_that_matches_nothing_is_told_once_and_waited_for(world: World) -> None:
    run = world.start()
    run.logged(rf"{world.logs}.*match")
    world.write("late.log", 100)
    world.all_land()
    assert run.log.count("matches no file") <= 2, run.log


def test_a_directory_that_appears_later_is_found(world: World) -> None:
    world.write("a.log", 10)
    later = world.root / "later" / "deep"
    world.more = f', "{later}/**/*.log"'
    world.start()
    world.all_land()
    later.mkdir(parents=True)
    (later / "b.log").write_bytes(b"from the new directory\n")
    world.written.append(b"from the new directory")
    world.all_land()


def test_once_with_a_named_file_that_is_a_directory_fails_and_lands_the_rest(world: World) -> None:
    """What nobody can read, not even root."""
    world.write("a.log", 10)
    bad = world.root / "bad.log"
    bad.mkdir()
    world.more = f', "{bad}"'
    run = world.start("--once")
    assert run.wait() == 1, run.log
    assert str(bad) in run.log
    assert sorted(world.landed()) == sorted(world.written)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_told_and_read_when_it_may_be(world: World) -> None:
    world.write("a.log", 10)
    world.write("secret.log", 10)
    (world.logs / "secret.log").chmod(0)
    run = world.start()
    run.logged(r"secret\.log.*[Pp]ermission denied")
    (world.logs / "secret.log").chmod(0o644)
    world.all_land()


def test_odd_bytes_land_as_they_are(world: World) -> None:
    odd = [
        b"nul \0 in it",
        b"",
        "ü ✓".encode(),
        b"cr \r inside",
        b"y" * 2_500_000,
        b"\xff\xfe not utf-8",
        b"last",
    ]
    world.logs.mkdir()
    (world.logs / "odd.log").write_bytes(b"\n".join(odd) + b"\nwindows\r\n")
    world.written = [*odd, b"windows"]
    run = world.start("--once")
    assert run.wait() == 0, run.log
    assert world.landed() == world.written
    dead = [path for path in Path(world.lake).rglob("*.parquet") if "_dead" in path.parts]
    assert len(dead) == 1
