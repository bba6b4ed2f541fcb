"""broker.client over a server that is killed and started again: nothing lost, nothing doubled, in order."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from tailrace.broker.client.admin import LATEST, create_topic, list_offsets
from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.fetcher import Fetcher
from tailrace.broker.client.producer import Producer
from tailrace.broker.client.topics import TopicPartition
from tailrace.errors import Fenced, Retry, Rewind
from tests.support.kafka_server import KafkaServer
from tests.support.live_broker import LiveBroker
from tests.support.rows import numbered

T = TypeVar("T")
KILLS = 4


@dataclass
class Server:
    """Something that can be killed and started again on its data."""

    bootstrap: str
    kill: Callable[[], None]
    start: Callable[[], None]


def ours(directory: Path) -> Iterator[Server]:
    broker = LiveBroker(directory / "data", flush_interval=0.05)
    address = broker.address
    running = [broker]

    def kill() -> None:
        running[-1].kill()

    def start() -> None:
        running.append(LiveBroker(directory / "data", listen=address, flush_interval=0.05))

    try:
        yield Server(address, kill, start)
    finally:
        running[-1].stop()
        for broker in running:
            assert broker.process.stdout is not None
            broker.process.stdout.close()


def kafka(directory: Path) -> Iterator[Server]:
    server = KafkaServer(directory / "server")
    server.format()
    server.start()
    try:
        yield Server(server.bootstrap, server.kill, server.start)
    finally:
        server.kill()


@pytest.fixture(params=["tailrace", pytest.param("kafka", marks=pytest.mark.interop)])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    yield from (ours if request.param == "tailrace" else kafka)(tmp_path)


def again(verb: Callable[[], T], seconds: float = 60.0) -> T:
    """What a runner does over Retry."""
    until = time.monotonic() + seconds
    while True:
        try:
            return verb()
        except Retry as error:
            assert time.monotonic() < until, error
            time.sleep(min(error.after, 0.1))


def under_fire(server: Server, work: Callable[[threading.Event, threading.Event], None]) -> None:
    """Runs `work(stop, moved)` in a thread, kills and restarts the server, and lets the work end.

    Each kill comes a little after the work has moved on, at another moment of it.
    """
    stop, moved = threading.Event(), threading.Event()
    faults: list[BaseException] = []

    def run() -> None:
        try:
            work(stop, moved)
        except BaseException as error:  # noqa: BLE001 - raised again below
            faults.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    for n in range(KILLS):
        moved.clear()
        while thread.is_alive() and not moved.wait(0.1):
            pass
        thread.join(0.03 + 0.07 * n)
        server.kill()
        server.start()
    stop.set()
    thread.join(120)
    assert not thread.is_alive()
    if faults:
        raise faults[0]


def all_rows(cluster: Cluster, partition: TopicPartition) -> list[int]:
    # The high watermark: the markers of the last transaction may come after the answer to EndTxn.
    end = again(lambda: list_offsets(cluster, [partition], LATEST))[partition]
    fetcher = Fetcher(cluster, max_wait=0.05)
    fetcher.seek(partition, 0)
    rows: list[int] = []
    while fetcher.positions()[partition] < end:
        fetched = again(lambda: fetcher.poll(1))
        if fetched is not None:
            rows += [int(body) for body in fetched.rows.column("body").to_pylist()]
    fetcher.close()
    return rows


def test_idempotent_rows_are_there_once_and_in_order(server):
    cluster = Cluster(server.bootstrap, patience=1.0)
    create_topic(cluster, "t")
    partition = TopicPartition("t", 0)
    producer = Producer(cluster, batch_bytes=2_000)
    sent = 0

    def work(stop: threading.Event, moved: threading.Event) -> None:
        nonlocal sent
        while not stop.is_set():
            rows = numbered(sent, sent + 500, size=30)
            again(lambda rows=rows: producer.send(partition, rows))
            sent += 500
            moved.set()
            if sent % 5000 == 0:
                again(producer.flush)
        again(producer.flush)

    under_fire(server, work)
    assert sent > 0
    assert all_rows(cluster, partition) == list(range(sent))


def test_committed_transactions_are_there_once_and_in_order(server):
    cluster = Cluster(server.bootstrap, patience=1.0)
    create_topic(cluster, "t", partitions=2)
    places = [TopicPartition("t", 0), TopicPartition("t", 1)]
    producer = Producer(cluster, transactional_id="tx", batch_bytes=2_000)
    committed = 0

    def settle() -> None:
        """As the Kafka sink does after Rewind and Fenced: what is there tells where to go on."""
        nonlocal committed
        again(producer.init_transactions)
        committed = len(all_rows(cluster, places[0]))

    def transaction() -> None:
        nonlocal committed
        again(producer.begin)
        for place in places:
            rows = numbered(committed, committed + 300, size=30)
            again(lambda place=place, rows=rows: producer.send(place, rows))
        again(producer.commit)
        committed += 300

    def work(stop: threading.Event, moved: threading.Event) -> None:
        settle()
        while not stop.is_set():
            try:
                transaction()
                moved.set()
            except (Rewind, Fenced):
                settle()

    under_fire(server, work)
    assert committed > 0
    for place in places:
        assert all_rows(cluster, place) == list(range(committed))
