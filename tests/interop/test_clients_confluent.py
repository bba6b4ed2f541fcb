"""confluent-kafka (librdkafka) against our broker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from confluent_kafka import KafkaError, KafkaException

from tests.support.client_cases import CASES, PATIENCE, Case, Consumer, Row
from tests.support.live_broker import LiveBroker

pytestmark = pytest.mark.interop


class ConfluentProducer:
    def __init__(self, settings: dict[str, Any]) -> None:
        self._producer = confluent_kafka.Producer(settings)
        self._refused: list[KafkaError] = []
        if "transactional.id" in settings:
            self._producer.init_transactions(PATIENCE)

    def send(self, topic: str, partition: int, value: bytes) -> None:
        self._producer.produce(topic, value, partition=partition, on_delivery=self._delivered)

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        if error is not None:
            self._refused.append(error)

    def flush(self) -> None:
        assert self._producer.flush(PATIENCE) == 0
        assert not self._refused

    def begin(self) -> None:
        self._producer.begin_transaction()

    def send_offsets(self, consumer: Consumer) -> None:
        assert isinstance(consumer, ConfluentConsumer)
        inner = consumer.inner
        positions = inner.position(inner.assignment())
        self._producer.send_offsets_to_transaction(positions, inner.consumer_group_metadata(), PATIENCE)

    def commit(self) -> None:
        self._producer.commit_transaction(PATIENCE)

    def abort(self) -> None:
        self._producer.abort_transaction(PATIENCE)

    def close(self) -> None:
        self._producer.flush(PATIENCE)


class ConfluentConsumer:
    def __init__(self, settings: dict[str, Any], topic: str) -> None:
        self.inner = confluent_kafka.Consumer(settings)
        self.inner.subscribe([topic])

    def poll(self) -> list[Row]:
        rows = []
        for message in self.inner.consume(1000, 0.2):
            if message.error() is not None:
                raise KafkaException(message.error())
            rows.append(Row(message.partition(), message.offset(), message.value()))
        return rows

    def assignment(self) -> set[int]:
        return {place.partition for place in self.inner.assignment()}

    def commit(self) -> None:
        self.inner.commit(asynchronous=False)

    def close(self) -> None:
        self.inner.close()


class ConfluentClients:
    fenced = (KafkaException,)

    def __init__(self, address: str) -> None:
        self._common = {"bootstrap.servers": address, "log_level": 3}

    def producer(self, *, idempotent: bool = False, transactional_id: str | None = None) -> ConfluentProducer:
        settings = {**self._common, "linger.ms": 5, "enable.idempotence": idempotent}
        if transactional_id is not None:
            settings |= {"transactional.id": transactional_id, "enable.idempotence": True}
        return ConfluentProducer(settings)

    def consumer(
        self, topic: str, group: str, *, read_committed: bool = False, instance: str | None = None
    ) -> ConfluentConsumer:
        settings = {
            **self._common,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "heartbeat.interval.ms": 300,
            "session.timeout.ms": 6000,
            "isolation.level": "read_committed" if read_committed else "read_uncommitted",
        }
        if instance is not None:
            settings["group.instance.id"] = instance
        return ConfluentConsumer(settings, topic)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBroker]:
    directory: Path = tmp_path_factory.mktemp("confluent") / "data"
    with LiveBroker(directory) as live:
        yield live


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_confluent(case: Case, broker: LiveBroker) -> None:
    case(ConfluentClients(broker.address), broker)
