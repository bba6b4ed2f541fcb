"""The tests of our groups and transactions, unchanged, on a real Apache Kafka: what they expect is what Kafka does."""

import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.broker.api import test_group_rules, test_groups, test_transactions
from tests.support.kafka_server import KafkaServer, running_kafka
from tests.support.wire_client import WireClient

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

OURS_ALONE = {
    # Kafka forgets the offsets of a deleted topic some time after it has answered.
    "test_a_topic_made_anew_has_no_offsets",
    # These start and kill brokers of ours.
    "test_a_broker_that_stops_does_not_wait_for_members_that_wait",
    "test_groups_and_offsets_survive_a_restart",
    "test_what_was_open_goes_on_after_a_restart",
}
for module in (test_group_rules, test_groups, test_transactions):
    globals().update(
        {
            name: value
            for name, value in vars(module).items()
            if name.startswith("test_") and name not in OURS_ALONE
        }
    )
_numbers = itertools.count()


class KafkaClient(WireClient):
    def create(self, topic: str, partitions: int = 1, **configs: str) -> None:
        """Returns when the broker knows the topic, which is a while after it has answered."""
        super().create(topic, partitions, **configs)
        wanted = [
            {
                "name": topic,
                "partitions": [{"partition_index": p, "timestamp": -1} for p in range(partitions)],
            }
        ]
        until(lambda: all(
            p.error_code == 0 for p in self.call(2, 7, replica_id=-1, topics=wanted).topics[0].partitions
        ))  # fmt: skip


class KafkaBroker:
    """As much of LiveBroker as the tests ask for."""

    def __init__(self, server: KafkaServer) -> None:
        self.host, self.port = "127.0.0.1", server.port

    def client(self, timeout: float = 20.0) -> KafkaClient:
        return KafkaClient(self.host, self.port, timeout)


def until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with running_kafka(tmp_path_factory.mktemp("kafka") / "node") as server:
        live = KafkaBroker(server)
        with live.client() as client:
            for kind in (0, 1):
                until(lambda kind=kind: _has_coordinator(client, kind))
            until(lambda: test_transactions.initialize(client, "first").error_code == 0)
        yield live


def _has_coordinator(client: WireClient, kind: int) -> bool:
    found = client.call(10, 4, key_type=kind, coordinator_keys=["first"]).coordinators[0]
    return bool(found.error_code == 0)


@pytest.fixture
def client(broker: KafkaBroker) -> Iterator[WireClient]:
    with broker.client() as connected:
        yield connected


@pytest.fixture
def other(broker: KafkaBroker) -> Iterator[WireClient]:
    with broker.client() as connected:
        yield connected


@pytest.fixture
def topic(client: WireClient) -> str:
    name = f"topic-{next(_numbers)}"
    client.create(name, 2)
    return name


@pytest.fixture
def group() -> str:
    return f"group-{next(_numbers)}"


@pytest.fixture
def name() -> str:
    return f"tx-{next(_numbers)}"
