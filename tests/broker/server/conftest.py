"""A live broker for each test that disturbs one, and one that all others share."""

from collections.abc import Iterator

import pytest

from tests.support.live_broker import LiveBroker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBroker]:
    with LiveBroker(tmp_path_factory.mktemp("server") / "data") as live:
        yield live
