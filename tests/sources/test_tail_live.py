"""A real writer that rotates while the source reads, is killed and started again: each line once."""

import random
from collections import Counter
from pathlib import Path

import pytest

from tailrace.clock import SystemClock
from tailrace.component import Context
from tailrace.sources.tail.settings import TailSettings
from tailrace.sources.tail.source import TailSource
from tests.support.rotating_writer import STYLES, RotatingWriter
from tests.support.source_driver import Driver, Store

ROTATIONS = 6


class LiveDriver(Driver):
    """By the machine's clock."""

    def __init__(self, settings: TailSettings, store: Store, tmp_path: Path) -> None:
        self.store, self.uncommitted, self.assigned = store, [], {}
        self.revoked, self.finished = [], False
        context = Context("p", "a", "files", "0" * 32, tmp_path, clock=SystemClock())
        self.source = TailSource(settings, context)
        self.source.open([dict(store.records)])


@pytest.mark.parametrize("seed", [1])
def test_each_line_comes_once_while_a_writer_rotates(logs: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    store = Store()
    landed: dict[str, int] = dict.fromkeys(STYLES, 0)
    writer = RotatingWriter(logs, seed, landed.__getitem__, pause=0.002)
    settings = TailSettings(type="tail", files=[str(logs / "*.log")], channels=["c"], rescan=0.2)
    driver = LiveDriver(settings, store, tmp_path)
    counted = 0
    seen: Counter[tuple[str, int]] = Counter()

    def count() -> None:
        nonlocal counted
        for row in store.rows[counted:]:
            style, number, *_ = row.body.split()
            seen[style.decode(), int(number)] += 1
        counted = len(store.rows)
        for style in STYLES:
            while (style, landed[style]) in seen:
                landed[style] += 1

    writer.start()
    try:
        while min(writer.rotations.values()) < ROTATIONS:
            driver.step(0.01)
            if chance.random() < 0.2:
                driver.commit()
                count()
            if chance.random() < 0.02:
                driver.rewind()
            if chance.random() < 0.02:
                driver.kill()
                driver = LiveDriver(settings, store, tmp_path)
    finally:
        written = writer.stop()
    while any(landed[style] < written[style] for style in STYLES):
        driver.step(0.01)  # the test's time-out is the deadline
        driver.commit()
        count()
    driver.kill()
    assert set(seen.values()) == {1}
    assert sum(seen.values()) == sum(written.values())
