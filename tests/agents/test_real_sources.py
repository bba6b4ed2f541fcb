"""Sources that have nothing more to give are sought back all the same, when a sink lost what it had not committed."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tailrace import registry
from tailrace.agents.runner import Runner
from tailrace.component import Context, Source
from tailrace.errors import Rewind
from tailrace.event import Partition
from tests.support.agents import CLOCK, agent
from tests.support.doubles import Store, StoringSink

LINES = [f"line {n}" for n in range(2000)]


class Bodies(StoringSink):
    """Stores bodies as they are."""

    def __init__(self) -> None:
        super().__init__(Store(), every=10**9)
        self.landed: list[str] = []

    def commit(self) -> Mapping[Partition, int]:
        self._called("commit")
        for batch in self.open_batches:
            self.landed += [body.decode() for body in batch.rows.column("body").to_pylist()]
        committed = {batch.partition: batch.span.end for batch in self.open_batches}
        self.open_batches = []
        return committed


def source(kind: str, context: Context, **settings: object) -> Source:
    component = registry.component("source", kind)
    made: Source = component(
        component.Settings.model_validate({"type": kind, "channels": ["c"], **settings}), context
    )
    return made


def tail(context: Context, root: Path) -> Source:
    (root / "a.log").write_text("".join(line + "\n" for line in LINES))
    return source("tail", context, files=[str(root / "*.log")])


def spool(context: Context, root: Path) -> Source:
    (root / "in").mkdir()
    (root / "in" / "a.txt").write_text("".join(line + "\n" for line in LINES))
    return source("spool", context, directory=str(root / "in"))


@pytest.mark.parametrize("make", [tail, spool])
def test_rows_that_the_last_commit_lost_are_read_again(
    make: Callable[[Context, Path], Source], tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    context = Context("p", "a", "s", "0" * 32, tmp_path / "state", once=True)
    sink = Bodies()
    sink.fail("commit", Rewind("gone"), Rewind("gone again"))
    assert Runner(agent([make(context, tmp_path)], [sink]), CLOCK).run(threading.Event(), 10)
    assert sink.landed == LINES
