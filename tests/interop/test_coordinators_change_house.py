"""Groups and transactions move between Apache Kafka and us with the data directory, in both directions."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tailrace.broker.api.journal import CONFIG, OFFSETS_TOPIC, TRANSACTIONS_TOPIC
from tailrace.broker.log import meta
from tailrace.broker.log.store import LogStore
from tailrace.broker.wire.errors import ErrorCode
from tests.broker.api.test_groups import commit, fetch, member_of
from tests.broker.api.test_transactions import Handle, committed, initialize, producer, stable_end
from tests.support.kafka_server import KafkaServer
from tests.support.live_broker import LiveBroker
from tests.support.wire_client import WireClient

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]
TOPIC = "rows"
KAFKAS = 4
"""Partitions of the internal topics of tests.support.kafka_server."""


@dataclass
class Left:
    """What was left behind in the old house."""

    member: Any
    open: Handle
    done: Handle


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def client_of(server: KafkaServer) -> WireClient:
    return WireClient("127.0.0.1", server.port)


def ready(client: WireClient) -> None:
    """Both coordinators of Kafka have loaded what they have."""
    for kind in (0, 1):
        until(
            lambda kind=kind: (
                client.call(10, 4, key_type=kind, coordinator_keys=["k"]).coordinators[0].error_code == 0
            )
        )
    until(lambda: initialize(client, "first").error_code == 0)


def move_in(client: WireClient) -> Left:
    """A stable group with an offset, a simple one, a transaction that is done and one that is open."""
    member = member_of(client, "members", instance="i", session=60_000)
    who = {"member_id": member.member_id, "generation_id_or_member_epoch": 1, "group_instance_id": "i"}
    assert commit(client, "members", TOPIC, 11, **who) == 0
    assert commit(client, "simple", TOPIC, 22) == 0
    done = producer(client, "done")
    assert done.add((TOPIC, 0)) == 0
    assert done.produce(TOPIC, b"committed") == 0
    assert done.add_group("held") == 0
    assert done.commit_offsets("held", TOPIC, 33) == 0
    done.settled(commit=True)
    open_ = producer(client, "open")
    assert open_.add((TOPIC, 1)) == 0
    assert open_.produce(TOPIC, b"open", partition=1) == 0
    assert open_.add_group("held") == 0
    assert open_.commit_offsets("held", TOPIC, 44) == 0
    return Left(member, open_, done)


def check(client: WireClient, left: Left) -> None:
    """Everything is as it was left; what was open can be ended."""
    offsets = [
        [p.committed_offset for t in fetch(client, g) for p in t.partitions] for g in ("members", "simple")
    ]
    assert offsets == [[11], [22]]
    beat = {"member_id": left.member.member_id, "generation_id": 1, "group_instance_id": "i"}
    assert client.call(12, 4, group_id="members", **beat).error_code == 0
    got = client.call(14, 4, group_id="members", assignments=[], **beat)
    assert (got.error_code, got.assignment) == (0, b"all")
    assert committed(client, "held") == [(33, 0)]
    assert committed(client, "held", stable=True) == [(-1, ErrorCode.unstable_offset_commit)]
    done = Handle(client, "done", left.done.producer_id, left.done.epoch)
    assert done.end(True) == 0
    open_ = Handle(client, "open", left.open.producer_id, left.open.epoch)
    assert open_.produce(TOPIC, b"more", partition=1, sequence=1) == 0
    open_.settled(commit=True)
    assert committed(client, "held", stable=True) == [(44, 0)]
    assert stable_end(client, TOPIC) == 2
    fresh = initialize(client, None).producer_id
    assert fresh not in (left.done.producer_id, left.open.producer_id)
    again = producer(client, "open")
    assert (again.producer_id, again.epoch) == (left.open.producer_id, left.open.epoch + 1)


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[KafkaServer]:
    server = KafkaServer(tmp_path / "kafka")
    server.format()
    server.start()
    yield server
    server.kill()


@pytest.mark.parametrize("kill", [False, True])
def test_from_kafka_to_us(kafka: KafkaServer, tmp_path: Path, kill: bool) -> None:
    with client_of(kafka) as client:
        ready(client)
        client.create(TOPIC, 2)
        until(lambda: commit(client, "first", TOPIC, 1) == 0)
        left = move_in(client)
    kafka.kill() if kill else kafka.stop()
    shutil.copytree(kafka.directory / "data", tmp_path / "ours")
    with LiveBroker(tmp_path / "ours") as live, live.client() as client:
        check(client, left)


@pytest.mark.parametrize("kill", [False, True])
def test_from_us_to_kafka(kafka: KafkaServer, tmp_path: Path, kill: bool) -> None:
    topics = {TOPIC: 2, OFFSETS_TOPIC: KAFKAS, TRANSACTIONS_TOPIC: KAFKAS}
    ours = tmp_path / "ours"
    store = LogStore(str(ours))
    store.open()
    for name, partitions in topics.items():
        store.create(name, partitions, {} if name == TOPIC else CONFIG)
    store.close()
    with LiveBroker(ours) as live, live.client() as client:
        left = move_in(client)
        live.kill() if kill else live.stop()
    with client_of(kafka) as client:
        ready(client)
        client.create(TOPIC, 2)
        until(lambda: commit(client, "first", TOPIC, 1) == 0)
    kafka.stop()
    for name, partitions in topics.items():
        for index in range(partitions):
            theirs = kafka.directory / "data" / f"{name}-{index}"
            topic_id = meta.read_partition(str(theirs))
            assert topic_id is not None
            shutil.rmtree(theirs)
            shutil.copytree(ours / f"{name}-{index}", theirs)
            text = f"version: 0\ntopic_id: {meta.to_text(topic_id)}"
            (theirs / meta.PARTITION_FILE).write_text(text)
    kafka.start()
    with client_of(kafka) as client:
        ready(client)
        check(client, left)
