from collections.abc import Callable
from dataclasses import replace

import pytest

from tailrace.broker.log.config import LogConfig
from tailrace.broker.log.log import PartitionLog, open_log
from tailrace.broker.log.recovery import Start
from tailrace.clock import ManualClock
from tailrace.fs import LocalFileSystem


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def opened(tmp_path, clock) -> Callable[..., PartitionLog]:
    """Opens the log in tmp_path/t-0; keyword arguments are LogConfig's, but for `start` and `fs`."""
    logs = []

    def open_it(start: Start | None = None, fs=None, **config) -> PartitionLog:
        log = open_log(
            str(tmp_path / "t-0"),
            fs=fs or LocalFileSystem(),
            clock=clock,
            config=replace(LogConfig(), **config),
            start=start,
        )
        logs.append(log)
        return log

    yield open_it
    for log in logs:
        log.abandon()
