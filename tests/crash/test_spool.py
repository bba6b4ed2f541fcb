"""Putting a spooled file away under SIGKILL at every failpoint and power cuts at every call: it keeps its bytes
and a name, and a name that was given up does not come back.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tailrace.fs import LocalFileSystem
from tailrace.sources.spool.disposal import Disposal
from tests.support.forked import run_forked
from tests.support.powercut import PowerCut, PowerCutFileSystem
from tests.support.ramdisk import ramdisk
from tests.support.source_places import failpoints

TEXT = b"what was read\n"
LUCKY_CUTS = 5
"""At each call, beside the one that keeps only what was synced."""


class WithoutLinks(PowerCutFileSystem):
    def link(self, source: str, target: str) -> None:
        if os.path.lexists(target):
            raise FileExistsError(target)
        raise OSError(errno.EOPNOTSUPP, "no hard links here")


WAYS = {
    "deleted": (PowerCutFileSystem, None),
    "renamed": (PowerCutFileSystem, "a.log.COMPLETED"),
    "moved": (PowerCutFileSystem, "done/sub/a.log"),
    "moved without links": (WithoutLinks, "done/sub/a.log"),
}
"""The filesystem, and what the file is called afterwards."""


def put_away(disposal: Disposal, spool: Path, target: str | None) -> None:
    if target is None:
        disposal.delete(str(spool / "a.log"))
    else:
        disposal.move(str(spool / "a.log"), str(spool / target))


def drop(spool: Path) -> None:
    spool.mkdir(parents=True)
    (spool / "a.log").write_bytes(TEXT)


def names(spool: Path) -> set[str]:
    found = {str(path.relative_to(spool)) for path in spool.rglob("*") if path.is_file()}
    assert {(spool / name).read_bytes() for name in found} <= {TEXT}, "bytes were lost"
    return found


def check(spool: Path, target: str | None, *, done: bool) -> None:
    """After the cut, or the kill; then the next start does the rest."""
    wanted = {target} - {None}
    found = names(spool)
    assert found <= {"a.log", *wanted}, f"a name was invented: {found}"
    assert found or target is None, "the file is gone"
    if done:
        assert found == wanted, f"a name came back: {found}"
    if "a.log" in found:
        put_away(Disposal(LocalFileSystem()), spool, target)
    assert names(spool) == wanted


def cut_at(spool: Path, way: str, call: int | None, seed: int | None, leave_out=None) -> int:
    """Cuts at this call, or when all is done; seed None: only what was synced stays. Answers the calls."""
    kind, target = WAYS[way]
    drop(spool)
    fs = kind(str(spool), seed=seed or 0, cut_at=call, leave_out=leave_out)
    done = False
    try:
        put_away(Disposal(fs), spool, target)
        done = True
    except PowerCut:
        pass
    calls = fs.calls
    fs.cut(lucky=seed is not None)
    check(spool, target, done=done)
    return calls


def cut_everywhere(directory: Path, way: str, leave_out: Callable[[str, int], bool] | None = None) -> None:
    calls = cut_at(directory / "done", way, None, None, leave_out)
    for call in range(1, calls + 1):
        for seed in [None, *range(LUCKY_CUTS)]:
            cut_at(directory / f"{call}-{seed}", way, call, seed, leave_out)


@pytest.mark.parametrize("way", WAYS)
def test_a_power_cut_anywhere_leaves_the_file_and_no_name_that_was_given_up(way: str):
    with ramdisk() as root:
        cut_everywhere(root, way)


@pytest.mark.parametrize("killed_at", failpoints("sources/spool"))
def test_sigkill_at_every_failpoint_leaves_the_rest_to_the_next_start(tmp_path: Path, killed_at: str):
    target = None if killed_at == "spool.deleted" else "done/sub/a.log"
    drop(tmp_path / "spool")
    ended = run_forked(
        lambda say: put_away(Disposal(LocalFileSystem()), tmp_path / "spool", target), f"{killed_at}=kill"
    )
    assert ended.status == -9
    check(tmp_path / "spool", target, done=False)
