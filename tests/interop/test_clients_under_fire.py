"""A worker of confluent-kafka consumes, transforms and produces in transactions while the broker is killed again and
again: each row arrives once.
"""

import threading
import time
from collections import Counter
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka import KafkaException, TopicPartition

from tests.support.live_broker import LiveBroker
from tests.support.ports import free_port

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]
ROWS, KILLS, PATIENCE = 4000, 8, 150.0


class Worker(threading.Thread):
    """Starts over with a new producer and consumer whenever either of them is at its wits' end."""

    def __init__(self, address: str, deadline: float) -> None:
        super().__init__()
        self._address = address
        self._deadline = deadline
        self.done = 0
        self.restarts = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while self.done < ROWS and time.monotonic() < self._deadline:
                try:
                    self._life()
                except KafkaException:
                    self.restarts += 1
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.failure = error

    def _life(self) -> None:
        common = {"bootstrap.servers": self._address, "log_level": 0}
        producer = confluent_kafka.Producer(
            {**common, "transactional.id": "worker", "transaction.timeout.ms": 20_000, "linger.ms": 2}
        )
        consumer = confluent_kafka.Consumer(
            {
                **common,
                "group.id": "workers",
                "group.instance.id": "worker",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "session.timeout.ms": 6000,
            }
        )
        try:
            producer.init_transactions(30)
            consumer.subscribe(["source"])
            while self.done < ROWS and time.monotonic() < self._deadline:
                self._transaction(producer, consumer)
        finally:
            consumer.close()

    def _transaction(self, producer: confluent_kafka.Producer, consumer: confluent_kafka.Consumer) -> None:
        messages = [m for m in consumer.consume(40, 0.5) if m.error() is None]
        if not messages:
            self.done = self._committed(consumer)
            return
        producer.begin_transaction()
        for message in messages:
            producer.produce("target", message.value(), partition=message.partition())
        positions = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), 20)
        producer.commit_transaction(20)

    def _committed(self, consumer: confluent_kafka.Consumer) -> int:
        places = [TopicPartition("source", partition) for partition in (0, 1)]
        return sum(max(place.offset, 0) for place in consumer.committed(places, 10))


def test_each_row_arrives_once(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    live = LiveBroker(tmp_path / "data", listen=listen)
    with live.client() as client:
        client.create("source", 2)
        client.create("target", 2)
    feeder = confluent_kafka.Producer({"bootstrap.servers": listen})
    for i in range(ROWS):
        feeder.produce("source", str(i).encode(), partition=i % 2)
    assert feeder.flush(30) == 0
    worker = Worker(listen, time.monotonic() + PATIENCE)
    worker.start()
    kills = 0
    try:
        while worker.is_alive() and kills < KILLS:
            worker.join(1.0 + 0.37 * kills % 1.0)
            live.kill()
            kills += 1
            live = LiveBroker(tmp_path / "data", listen=listen)
        worker.join()
        assert worker.failure is None
        assert worker.done == ROWS, f"{worker.done} rows after {kills} kills and {worker.restarts} restarts"
        assert kills >= 3, "the worker was done before it could be disturbed"
        assert _rows(listen) == Counter(str(i).encode() for i in range(ROWS))
    finally:
        live.stop()


def _rows(address: str) -> Counter[bytes]:
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "judge",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition("target", partition, 0) for partition in (0, 1)])
    rows: Counter[bytes] = Counter()
    ended: set[int] = set()
    while len(ended) < 2:
        message = consumer.poll(20)
        assert message is not None
        if message.error() is None:
            rows[message.value()] += 1
        else:
            ended.add(message.partition())
    consumer.close()
    return rows
