"""Leaves out one fsync at a time, each place where the log and the file channel have one, and expects the
proofs to fail.

A sync that no test misses is either not needed, and then it goes, or the tests are too weak.
"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace import fs
from tailrace.errors import TailraceError
from tests.crash import test_file_channel, test_log, test_log_every_call
from tests.support.ramdisk import ramdisk

ROOT = Path(__file__).parents[2]
FILES = [
    *sorted((ROOT / "broker" / "log").glob("*.py")),
    *sorted((ROOT / "channels").glob("*.py")),
    Path(inspect.getfile(fs)),
]


def sync_calls() -> Iterator[tuple[str, int]]:
    """(path, line) of each call of fsync or fsync_dir on a filesystem that is a parameter."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("fsync", "fsync_dir")
                and not (isinstance(node.func.value, ast.Name) and node.func.value.id == "os")
            ):
                yield str(path.relative_to(ROOT)), node.lineno


def proofs() -> Iterator:
    """The crash tests, unmodified, the quick ones first; each takes (directory, leave_out)."""
    for seed in range(3):
        yield lambda d, skip, seed=seed: test_log.power_cut_history(d, seed, leave_out=skip)
        yield lambda d, skip, seed=seed: test_file_channel.power_cut_history(d, seed, leave_out=skip)
    for scenario in test_log_every_call.SCENARIOS:
        yield lambda d, skip, s=scenario: test_log_every_call.cut_when_done(d, s, leave_out=skip)
    for scenario in test_log_every_call.SCENARIOS:
        yield lambda d, skip, s=scenario: test_log_every_call.cut_everywhere(d, s, leave_out=skip)


@pytest.mark.parametrize("place", sorted(set(sync_calls())), ids=lambda place: f"{place[0]}:{place[1]}")
def test_a_left_out_sync_is_noticed(place):
    name, line = place

    def leave_out(filename: str, lineno: int) -> bool:
        return lineno == line and filename.endswith(name.removeprefix("tailrace/"))

    with ramdisk() as root:
        for n, proof in enumerate(proofs()):
            try:
                proof(root / str(n), leave_out)
            except (AssertionError, TailraceError):
                return
    pytest.fail(f"nothing noticed that {name}:{line} does not sync")
