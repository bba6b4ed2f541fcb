"""A directory of logs, and a tail source over it that can be started, killed and started again."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailrace.clock import ManualClock
from tailrace.sources.tail.settings import TailSettings
from tailrace.sources.tail.source import TailSource
from tests.support.source_driver import Driver, Store

Start = Callable[..., Driver]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    path = tmp_path / "logs"
    path.mkdir()
    return path


@pytest.fixture
def start(logs: Path, tmp_path: Path, store: Store, clock: ManualClock) -> Iterator[Start]:
    """Starts a tail source of `logs/*.log*` with what the store has; settings may be given."""
    drivers: list[Driver] = []

    def start(*files: str, once: bool = False, **settings: object) -> Driver:
        patterns = [str(logs / pattern) for pattern in files or ("*.log*",)]
        options = {"watch": False, "files": patterns, "channels": ["c"], **settings}
        parsed = TailSettings(type="tail", **options)  # type: ignore[arg-type]
        driver = Driver(lambda context: TailSource(parsed, context), store, tmp_path, clock, once=once)
        drivers.append(driver)
        return driver

    yield start
    for driver in drivers:
        driver.kill()
