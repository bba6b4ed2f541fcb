"""kafka-python against our broker."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kafka
import pytest
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from tests.support.client_cases import CASES, PATIENCE, Case, Consumer, Row
from tests.support.live_broker import LiveBroker

pytestmark = pytest.mark.interop


class PythonProducer:
    def __init__(self, settings: dict[str, Any]) -> None:
        self._producer = kafka.KafkaProducer(**settings)
        self._sent: list[Any] = []
        if "transactional_id" in settings:
            self._producer.init_transactions()

    def send(self, topic: str, partition: int, value: bytes) -> None:
        self._sent.append(self._producer.send(topic, value, partition=partition))

    def flush(self) -> None:
        self._producer.flush(PATIENCE)
        for future in self._sent:
            future.get(PATIENCE)
        self._sent.clear()

    def begin(self) -> None:
        self._producer.begin_transaction()

    def send_offsets(self, consumer: Consumer) -> None:
        assert isinstance(consumer, PythonConsumer)
        inner = consumer.inner
        offsets = {place: OffsetAndMetadata(inner.position(place), "", -1) for place in inner.assignment()}
        self._producer.send_offsets_to_transaction(offsets, inner.group_metadata())

    def commit(self) -> None:
        self._producer.commit_transaction()

    def abort(self) -> None:
        self._producer.abort_transaction()

    def close(self) -> None:
        self._producer.close(PATIENCE)


class PythonConsumer:
    def __init__(self, settings: dict[str, Any], topic: str) -> None:
        self.inner = kafka.KafkaConsumer(**settings)
        self.inner.subscribe([topic])

    def poll(self) -> list[Row]:
        found = self.inner.poll(timeout_ms=200, max_records=1000)
        return [
            Row(record.partition, record.offset, record.value)
            for records in found.values()
            for record in records
        ]

    def assignment(self) -> set[int]:
        return {place.partition for place in self.inner.assignment()}

    def commit(self) -> None:
        self.inner.commit()

    def close(self) -> None:
        self.inner.close(autocommit=False)


class PythonClients:
    fenced = (KafkaError,)

    def __init__(self, address: str) -> None:
        self._common = {"bootstrap_servers": address}

    def producer(self, *, idempotent: bool = False, transactional_id: str | None = None) -> PythonProducer:
        settings: dict[str, Any] = {**self._common, "linger_ms": 5, "enable_idempotence": idempotent}
        if transactional_id is not None:
            settings |= {"transactional_id": transactional_id, "enable_idempotence": True}
        return PythonProducer(settings)

    def consumer(
        self, topic: str, group: str, *, read_committed: bool = False, instance: str | None = None
    ) -> PythonConsumer:
        settings: dict[str, Any] = {
            **self._common,
            "group_id": group,
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "heartbeat_interval_ms": 300,
            "session_timeout_ms": 6000,
            "isolation_level": "read_committed" if read_committed else "read_uncommitted",
        }
        if instance is not None:
            settings["group_instance_id"] = instance
        return PythonConsumer(settings, topic)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBroker]:
    directory: Path = tmp_path_factory.mktemp("kafka-python") / "data"
    with LiveBroker(directory) as live:
        yield live


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_kafka_python(case: Case, broker: LiveBroker) -> None:
    case(PythonClients(broker.address), broker)
