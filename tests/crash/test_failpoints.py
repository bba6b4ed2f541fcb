"""Every failpoint that stands in the source is a place where a test of this folder kills a real child process.

A test says where it kills by its parameter `killed_at`; conftest.py fails it unless SIGKILL hit right there.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.source_places import failpoints

NEEDS_HDFS = "store.webhdfs."
"""Killed at by `make interop`; everything else by `make test`."""


def kills_of(module: ModuleType) -> Iterator[tuple[str, bool]]:
    """Failpoints that the module's tests kill at, and whether `make test` runs them."""
    everywhere = getattr(module, "pytestmark", [])
    for name, function in vars(module).items():
        if not name.startswith("test_"):
            continue
        marks = [*(everywhere if isinstance(everywhere, list) else [everywhere])]
        marks += getattr(function, "pytestmark", [])
        daily = not any(mark.name in ("interop", "soak", "skip", "skipif", "xfail") for mark in marks)
        for mark in marks:
            if mark.name == "parametrize":
                yield from ((killed_at, daily) for killed_at in _values(*mark.args))


def _values(names: str | tuple[str, ...], values: list) -> list[str]:
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    if "killed_at" not in names:
        return []
    at = names.index("killed_at")
    return [value if len(names) == 1 else value[at] for value in values]


MODULES = [
    importlib.import_module(f"tests.crash.{path.stem}")
    for path in sorted(Path(__file__).parent.glob("test_*.py"))
    if path != Path(__file__)
]
KILLS = {kill for module in MODULES for kill in kills_of(module)}


@pytest.mark.parametrize("name", failpoints())
def test_a_sigkill_hits_every_failpoint(name: str) -> None:
    daily = not name.startswith(NEEDS_HDFS)
    assert (name, daily) in KILLS, f"no test has {name} among its `killed_at`"
