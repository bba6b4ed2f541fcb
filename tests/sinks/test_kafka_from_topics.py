"""Topic to topic: the group's generation is part of the transaction, so a rebalance cannot double a row."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tailrace.broker.client.admin import committed_offsets, create_topic, delete_topic
from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.producer import Producer
from tailrace.broker.client.topics import TopicPartition
from tailrace.clock import SystemClock
from tailrace.component import Assigned, Context, Membership
from tailrace.errors import Retry, Rewind
from tailrace.event import EventBatch, Partition, Record
from tailrace.sinks.kafka import KafkaSink
from tailrace.sinks.kafka_settings import KafkaSinkSettings
from tailrace.sources.kafka import KafkaSource
from tailrace.sources.kafka_settings import KafkaSourceSettings
from tests.support.live_broker import LiveBroker
from tests.support.rows import rows_of
from tests.support.running import eventually
from tests.support.topic_rows import bodies_in

_numbers = itertools.count()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBroker]:
    with LiveBroker(tmp_path_factory.mktemp("broker") / "data", flush_interval=0.05) as broker:
        yield broker


@pytest.fixture
def cluster(broker: LiveBroker) -> Iterator[Cluster]:
    cluster = Cluster(broker.address)
    yield cluster
    cluster.close()


@pytest.fixture
def name(cluster: Cluster) -> str:
    """The topics `in-<name>`, with 100 rows, and `out-<name>`."""
    name = str(next(_numbers))
    create_topic(cluster, f"in-{name}")
    fill(cluster, name, 0, 100)
    return name


def fill(cluster: Cluster, name: str, start: int, end: int) -> None:
    producer = Producer(cluster)
    bodies = [b"row %d" % n for n in range(start, end)]
    producer.send(TopicPartition(f"in-{name}", 0), rows_of(*bodies, timestamp=SystemClock().now_ms()))
    producer.flush()
    producer.close()


@dataclass
class Relay:
    """One instance of an agent: a source in the group, and a sink. The test is its runner."""

    source: KafkaSource
    sink: KafkaSink
    membership: Membership | None = None
    partition: Partition | None = None
    records: dict[Partition, Record] = field(default_factory=dict)

    def join(self) -> Partition:
        """Takes the partition from the group and reads what the sink has; seeks."""
        while self.partition is None:
            event = self.source.read(0.05)
            if isinstance(event, Assigned) and event.partitions:
                [self.partition] = event.partitions
                self.membership = event.membership
        self.acquire()
        return self.partition

    def acquire(self) -> None:
        assert self.partition is not None
        self.records = dict(patiently(self.sink.acquire, [self.partition], self.membership))
        self.source.seek(self.partition, self.records.get(self.partition))

    def read(self) -> EventBatch:
        while True:
            event = self.source.read(0.05)
            if isinstance(event, EventBatch):
                return event

    def leave(self) -> None:
        self.source._group.close(leave=True)


def patiently(verb: Callable[..., Any], *arguments: Any) -> Any:
    while True:
        try:
            return verb(*arguments)
        except Retry:
            continue


@pytest.fixture
def relay(broker: LiveBroker, name: str, tmp_path: Path) -> Iterator[Callable[..., Relay]]:
    started: list[Relay] = []

    def start(instance: str, *, sink_name: str = "out") -> Relay:
        def context(component: str) -> Context:
            return Context("p", f"a-{name}", component, instance * 32, tmp_path, broker.address)

        reading = KafkaSourceSettings(type="kafka", channels=["c"], topics=[f"in-{name}"], group=f"g-{name}")
        writing = KafkaSinkSettings(type="kafka", channel="c", topic=f"out-{name}")
        started.append(Relay(KafkaSource(reading, context("in")), KafkaSink(writing, context(sink_name))))
        started[-1].source.open([])
        started[-1].sink.open()
        return started[-1]

    yield start
    for one in started:
        one.source.close()
        one.sink.close()


Start = Callable[..., Relay]


def out(broker: LiveBroker, name: str) -> list[bytes | None]:
    return bodies_in(broker.address, f"out-{name}")


def expected(end: int) -> list[bytes]:
    return [b"row %d" % n for n in range(end)]


def test_rows_positions_and_the_groups_offsets_are_one_transaction(
    relay: Start, broker: LiveBroker, cluster: Cluster, name: str
):
    one = relay("1")
    partition = one.join()
    one.sink.write(one.read())
    place = TopicPartition(f"in-{name}", 0)
    assert committed_offsets(cluster, f"g-{name}", [place]) == {}
    assert one.sink.commit() == {partition: 100}
    assert out(broker, name) == expected(100)
    eventually(lambda: committed_offsets(cluster, f"g-{name}", [place]) == {place: (100, "")})


def test_the_next_owner_goes_on_where_another_instance_stopped(
    relay: Start, broker: LiveBroker, cluster: Cluster, name: str
):
    one, two = relay("1"), relay("2")
    partition = one.join()
    one.sink.write(one.read())
    one.sink.commit()
    one.leave()
    fill(cluster, name, 100, 150)
    assert two.join() == partition
    assert two.records == {partition: Record(100)}
    two.sink.write(two.read())
    two.sink.commit()
    assert out(broker, name) == expected(150)


def test_whoever_lost_the_partition_cannot_commit_any_more(relay: Start, broker: LiveBroker, name: str):
    one, two = relay("1"), relay("2")
    one.join()
    one.sink.write(one.read())
    one.sink._producer.flush()
    one.leave()
    two.join()
    assert two.records == {}
    two.sink.write(two.read())
    two.sink.commit()
    with pytest.raises(Rewind):
        patiently(one.sink.commit)
    one.sink.abort()
    assert out(broker, name) == expected(100)


def test_a_commit_that_was_checked_before_the_rebalance_is_waited_for(
    relay: Start, broker: LiveBroker, name: str, monkeypatch: pytest.MonkeyPatch
):
    one, two = relay("1"), relay("2")
    partition = one.join()
    one.sink.write(one.read())
    end = one.sink._producer.commit
    monkeypatch.setattr(one.sink._producer, "commit", lambda: (_ for _ in ()).throw(Retry("not yet")))
    with pytest.raises(Retry, match="not yet"):
        one.sink.commit()  # all but the EndTxn: the group has taken the offsets
    one.leave()
    with ThreadPoolExecutor(1) as pool:
        joining = pool.submit(two.join)
        eventually(lambda: two.partition is not None)
        monkeypatch.setattr(one.sink._producer, "commit", end)
        assert patiently(one.sink.commit) == {partition: 100}
        joining.result(60)
    assert two.records == {partition: Record(100)}
    assert out(broker, name) == expected(100)


def test_two_sinks_behind_one_source_have_positions_of_their_own(relay: Start, cluster: Cluster, name: str):
    one, other = relay("1"), relay("1", sink_name="other")
    partition = one.join()
    batch = one.read()
    one.sink.write(batch)
    one.sink.commit()
    assert patiently(other.sink.acquire, [partition], one.membership) == {}
    other.sink.write(batch)
    other.sink.abort()
    fill(cluster, name, 100, 120)
    more = one.read()
    one.sink.write(more)
    one.sink.commit()
    one.leave()
    again = relay("1")
    assert again.join() == partition
    assert again.records == {partition: Record(120)}
    assert patiently(other.sink.acquire, [partition], again.membership) == {}


def test_a_topic_made_anew_is_read_from_its_beginning(
    relay: Start, broker: LiveBroker, cluster: Cluster, name: str
):
    one = relay("1")
    partition = one.join()
    one.sink.write(one.read())
    one.sink.commit()
    one.leave()
    delete_topic(cluster, f"in-{name}")
    eventually(lambda: create_topic(cluster, f"in-{name}"))
    fill(cluster, name, 100, 130)
    two = relay("1")
    assert two.join() != partition
    assert two.records == {}
    two.sink.write(two.read())
    two.sink.commit()
    assert out(broker, name) == expected(130)
