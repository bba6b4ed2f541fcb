"""What the crash tests share: a live broker, and the check that a test killed where it says."""

from collections.abc import Generator, Iterator

import pytest

from tests.support import kills
from tests.support.live_broker import LiveBroker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBroker]:
    with LiveBroker(tmp_path_factory.mktemp("broker") / "data", flush_interval=0.05) as broker:
        yield broker


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """A test with the parameter `killed_at` fails unless SIGKILL ended a child at that very failpoint."""
    kills.noted.clear()
    yield
    name = item.callspec.params.get("killed_at") if hasattr(item, "callspec") else None
    assert name is None or name in kills.noted, f"no SIGKILL hit {name} in a child process"
