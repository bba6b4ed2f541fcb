"""aiokafka against our broker; its event loop runs in a thread, so that the cases are those of the others."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import aiokafka
import pytest
from aiokafka.errors import KafkaError

from tests.support.client_cases import CASES, PATIENCE, Case, Consumer, Row
from tests.support.live_broker import LiveBroker

pytestmark = pytest.mark.interop
T = TypeVar("T")


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def close(self) -> None:
        async def cancel_what_a_fenced_producer_left() -> None:
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

        self.run(cancel_what_a_fenced_producer_left())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class AioProducer:
    def __init__(self, loop: Loop, settings: dict[str, Any]) -> None:
        self._loop = loop
        self._sent: list[Any] = []

        async def start() -> aiokafka.AIOKafkaProducer:
            producer = aiokafka.AIOKafkaProducer(**settings)
            await producer.start()
            return producer

        self._producer = loop.run(start())

    def send(self, topic: str, partition: int, value: bytes) -> None:
        self._sent.append(self._loop.run(self._producer.send(topic, value, partition=partition)))

    def flush(self) -> None:
        async def wait() -> None:
            await self._producer.flush()
            await asyncio.gather(*self._sent)

        self._loop.run(wait())
        self._sent.clear()

    def begin(self) -> None:
        self._loop.run(self._producer.begin_transaction())

    def send_offsets(self, consumer: Consumer) -> None:
        assert isinstance(consumer, AioConsumer)

        async def send() -> None:
            inner = consumer.inner
            offsets = {place: await inner.position(place) for place in inner.assignment()}
            await self._producer.send_offsets_to_transaction(offsets, consumer.group)

        self._loop.run(send())

    def commit(self) -> None:
        self._loop.run(self._producer.commit_transaction())

    def abort(self) -> None:
        self._loop.run(self._producer.abort_transaction())

    def close(self) -> None:
        self._loop.run(self._producer.stop())


class AioConsumer:
    def __init__(self, loop: Loop, settings: dict[str, Any], topic: str) -> None:
        self._loop = loop
        self.group = settings["group_id"]

        async def start() -> aiokafka.AIOKafkaConsumer:
            consumer = aiokafka.AIOKafkaConsumer(topic, **settings)
            await consumer.start()
            return consumer

        self.inner = loop.run(start())

    def poll(self) -> list[Row]:
        found = self._loop.run(self.inner.getmany(timeout_ms=200, max_records=1000))
        return [
            Row(record.partition, record.offset, record.value)
            for records in found.values()
            for record in records
        ]

    def assignment(self) -> set[int]:
        return {place.partition for place in self.inner.assignment()}

    def commit(self) -> None:
        self._loop.run(self.inner.commit())

    def close(self) -> None:
        self._loop.run(self.inner.stop())


class AioClients:
    fenced = (KafkaError,)

    def __init__(self, loop: Loop, address: str) -> None:
        self._loop = loop
        self._common = {"bootstrap_servers": address}

    def producer(self, *, idempotent: bool = False, transactional_id: str | None = None) -> AioProducer:
        settings: dict[str, Any] = {**self._common, "linger_ms": 5, "enable_idempotence": idempotent}
        if transactional_id is not None:
            settings |= {"transactional_id": transactional_id, "enable_idempotence": True}
        return AioProducer(self._loop, settings)

    def consumer(
        self, topic: str, group: str, *, read_committed: bool = False, instance: str | None = None
    ) -> AioConsumer:
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
        return AioConsumer(self._loop, settings, topic)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBroker]:
    directory: Path = tmp_path_factory.mktemp("aiokafka") / "data"
    with LiveBroker(directory) as live:
        yield live


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    running = Loop()
    yield running
    running.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_aiokafka(case: Case, broker: LiveBroker, loop: Loop) -> None:
    case(AioClients(loop, broker.address), broker)
