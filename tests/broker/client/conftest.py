"""A scripted cluster a test, and a client of it with little patience."""

from collections.abc import Iterator

import pytest

from tailrace.broker.client.cluster import Cluster
from tests.support.scripted_broker import ScriptedCluster


@pytest.fixture
def scripted() -> Iterator[ScriptedCluster]:
    cluster = ScriptedCluster({"t": 2})
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(scripted: ScriptedCluster) -> Iterator[Cluster]:
    client = Cluster(scripted.bootstrap, timeout=5.0, patience=2.0)
    yield client
    client.close()
