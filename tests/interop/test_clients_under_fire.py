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
KILLS, ROWS_A_KILL, PATIENCE = 8, 1000, 150.0
ROWS = (KILLS + 1) * ROWS_A_KILL


class JoinedAnew(Exception):
    """Rows that were taken before are read again from where the group stands: a transaction of the new
    generation must not commit them, too.
    """


class Worker(threading.Thread):
    """Starts over with a new producer and consumer whenever either of them is at its wits' end."""

    def __init__(self, address: str, deadline: float) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._deadline = deadline
        self.done = 0
        self.transactions = 0
        self.restarts = 0
        self.failure: BaseException | None = None
        self._memberships: list[object] = []
        """Of each assignment in this life."""

    def run(self) -> None:
        try:
            while self.done < ROWS and time.monotonic() < self._deadline:
                try:
                    self._life()
                except (KafkaException, JoinedAnew):
                    self.restarts += 1
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.failure = error

    def _life(self) -> None:
        # A client that bootstraps anew forgets the broker, but not that it was the group's coordinator, and waits
        # for it for ever: https://github.com/confluentinc/librdkafka/issues/5511
        common = {
            "bootstrap.servers": self._address,
            "log_level": 0,
            "metadata.recovery.strategy": "none",
        }
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
            self._memberships.clear()
            consumer.subscribe(["source"], on_assign=self._assigned)
            while self.done < ROWS and time.monotonic() < self._deadline:
                self._transaction(producer, consumer)
        finally:
            consumer.close()

    def _assigned(self, consumer: confluent_kafka.Consumer, _: list[TopicPartition]) -> None:
        self._memberships.append(consumer.consumer_group_metadata())

    def _transaction(self, producer: confluent_kafka.Producer, consumer: confluent_kafka.Consumer) -> None:
        messages = [m for m in consumer.consume(40, 0.5) if m.error() is None]
        if len(self._memberships) > 1:
            raise JoinedAnew
        if not messages:
            self.done = self._committed(consumer)
            return
        producer.begin_transaction()
        for message in messages:
            producer.produce("target", message.value(), partition=message.partition())
        behind = {message.partition(): message.offset() + 1 for message in messages}
        positions = [TopicPartition("source", partition, offset) for partition, offset in behind.items()]
        producer.send_offsets_to_transaction(positions, self._memberships[0], 20)
        producer.commit_transaction(20)
        self.transactions += 1

    def _committed(self, consumer: confluent_kafka.Consumer) -> int:
        places = [TopicPartition("source", partition) for partition in (0, 1)]
        return sum(max(place.offset, 0) for place in consumer.committed(places, 10))


def test_each_row_arrives_once(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    live = LiveBroker(tmp_path / "data", listen=listen)
    with live.client() as client:
        client.create("source", 2)
        client.create("target", 2)
    deadline = time.monotonic() + PATIENCE
    worker = Worker(listen, deadline)
    try:
        _feed(listen, 0)
        worker.start()
        for kill in range(KILLS):
            _wait_for_a_transaction(worker, deadline)
            worker.join(0.037 * kill)
            live.kill()
            live = LiveBroker(tmp_path / "data", listen=listen)
            _feed(listen, kill + 1)
        worker.join(PATIENCE)
        assert worker.failure is None
        assert worker.done == ROWS, f"{worker.done} of {ROWS} rows after {worker.restarts} restarts"
        rows = _rows(listen)
        assert rows - Counter(rows.keys()) == Counter(), "rows came twice"
        assert len(rows) == ROWS
    finally:
        live.stop()


def _feed(address: str, part: int) -> None:
    """The worker is never done before the last part is there: each kill finds it at work."""
    feeder = confluent_kafka.Producer({"bootstrap.servers": address, "enable.idempotence": True})
    for i in range(part * ROWS_A_KILL, (part + 1) * ROWS_A_KILL):
        feeder.produce("source", str(i).encode(), partition=i % 2)
    assert feeder.flush(30) == 0


def _wait_for_a_transaction(worker: Worker, deadline: float) -> None:
    before = worker.transactions
    while worker.transactions == before and worker.is_alive():
        assert time.monotonic() < deadline, f"no transaction after {before} and {worker.restarts} restarts"
        time.sleep(0.005)


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
