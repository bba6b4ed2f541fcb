"""Runs of the real command, ended whatever a test does."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailrace.agents import fences, source_loop
from tests.support.running import Tailrace

Run = Callable[..., Tailrace]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts are for the world outside to get better; test doubles do not need them."""
    monkeypatch.setattr(source_loop, "ASK_AGAIN", 0.05)
    monkeypatch.setattr(fences, "FIRST_PAUSE", 0.01)


@pytest.fixture
def tailrace(tmp_path: Path) -> Iterator[Run]:
    """tailrace(text, *arguments): `state_dir` is in the test's folder."""
    runs: list[Tailrace] = []

    def start(text: str, *arguments: str) -> Tailrace:
        runs.append(Tailrace(tmp_path, f"state_dir: {tmp_path}/state\n{text}", *arguments))
        return runs[-1]

    yield start
    for run in runs:
        run.end()
