"""One live broker for all tests of the folder, and a connection and a topic of its own for each."""

import itertools
from collections.abc import Iterator

import pytest

from tests.support.live_broker import LiveBroker
from tests.support.wire_client import WireClient

_numbers = itertools.count()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBroker]:
    with LiveBroker(tmp_path_factory.mktemp("broker") / "data", flush_interval=0.05) as live:
        yield live


@pytest.fixture
def client(broker: LiveBroker) -> Iterator[WireClient]:
    with broker.client() as connected:
        yield connected


@pytest.fixture
def topic(client: WireClient) -> str:
    name = f"topic-{next(_numbers)}"
    client.create(name, 2)
    return name
