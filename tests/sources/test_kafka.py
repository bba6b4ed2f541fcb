"""The Kafka source against a broker: what the group shares out, from where the sinks say."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tailrace.broker.client.admin import committed_offsets, create_topic, delete_topic
from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.errors import UnknownTopic
from tailrace.broker.client.producer import Producer
from tailrace.broker.client.topics import TopicPartition
from tailrace.clock import SystemClock
from tailrace.component import Assigned, Context, Revoked
from tailrace.errors import Finished, Halt, Retry
from tailrace.event import EventBatch, Partition, Record
from tailrace.sources import kafka_holdups
from tailrace.sources.kafka import KafkaSource
from tailrace.sources.kafka_settings import KafkaSourceSettings
from tests.support.live_broker import LiveBroker
from tests.support.ports import free_port
from tests.support.rows import rows_of
from tests.support.running import DEADLINE, eventually

TURN = 0.05
_numbers = itertools.count()


class ShiftedClock(SystemClock):
    """The machine's clock, whose monotonic part can be set forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


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
def topic(cluster: Cluster) -> str:
    name = f"topic-{next(_numbers)}"
    create_topic(cluster, name, partitions=2)
    return name


def produce(cluster: Cluster, topic: str, partition: int, *bodies: bytes) -> None:
    producer = Producer(cluster)
    producer.send(TopicPartition(topic, partition), rows_of(*bodies, timestamp=SystemClock().now_ms()))
    producer.flush()
    producer.close()


def numbered(start: int, end: int) -> list[bytes]:
    return [b"row %d" % n for n in range(start, end)]


class Reader:
    """Plays the runner for one Kafka source: assigns, seeks to what `stored` has, takes batches."""

    def __init__(self, source: KafkaSource, stored: dict[Partition, Record]) -> None:
        self.source = source
        self.stored = stored
        self.assigned: set[Partition] = set()
        self.rows: dict[Partition, list[bytes]] = {}
        self.next: dict[Partition, int] = {}
        self.events: list[Any] = []
        self.memberships: list[Any] = []
        source.open([])

    def turn(self) -> Any:
        event = self.source.read(TURN)
        if event is not None:
            self.events.append(event)
        if isinstance(event, Assigned):
            self.memberships.append(event.membership)
            self.assigned |= set(event.partitions)
            for partition in event.partitions:
                record = self.stored.get(partition)
                self.next.pop(partition, None)
                if record is not None:
                    self.next[partition] = record.position
                self.source.seek(partition, record)
        elif isinstance(event, Revoked):
            self.assigned -= set(event.partitions)
        elif isinstance(event, EventBatch):
            self._take(event)
        return event

    def _take(self, batch: EventBatch) -> None:
        assert batch.partition in self.assigned
        assert self.next.get(batch.partition, batch.span.start) == batch.span.start
        positions = batch.rows.column("position").to_pylist()
        assert all(batch.span.start <= position < batch.span.end for position in positions)
        self.rows.setdefault(batch.partition, []).extend(batch.rows.column("body").to_pylist())
        self.next[batch.partition] = batch.span.end

    def commit(self, stamp: str = "") -> None:
        self.stored |= {partition: Record(position) for partition, position in self.next.items()}
        self.source.committed({p: self.next[p] for p in self.assigned if p in self.next}, stamp)

    def until(self, done: Callable[[], Any]) -> None:
        end = self.source._clock.monotonic() + DEADLINE
        while not done():
            self.turn()
            assert self.source._clock.monotonic() < end, (self.events, self.rows)

    def bodies(self) -> set[bytes]:
        return {body for bodies in self.rows.values() for body in bodies}

    def count(self) -> int:
        return sum(map(len, self.rows.values()))


@pytest.fixture
def reader(broker: LiveBroker, topic: str, tmp_path: Path) -> Iterator[Callable[..., Reader]]:
    """Starts a source in the group named after the topic."""
    started: list[KafkaSource] = []

    def start(
        *topics: str,
        stored: dict[Partition, Record] | None = None,
        instance: str = "0" * 32,
        once: bool = False,
        bootstrap: str = "",
        clock: Any = None,
        **settings: Any,
    ) -> Reader:
        chosen = KafkaSourceSettings(
            type="kafka", channels=["c"], topics=list(topics or (topic,)), group=f"g-{topic}", **settings
        )
        context = Context(
            "p",
            "a",
            "in",
            instance,
            tmp_path,
            bootstrap or broker.address,
            once=once,
            clock=clock or SystemClock(),
        )
        source = KafkaSource(chosen, context)
        started.append(source)
        return Reader(source, {} if stored is None else stored)

    yield start
    for source in started:
        source.close()


Start = Callable[..., Reader]


def test_reads_every_row_of_every_partition(reader: Start, cluster: Cluster, topic: str):
    produce(cluster, topic, 0, *numbered(0, 100))
    produce(cluster, topic, 1, *numbered(100, 150))
    got = reader()
    got.until(lambda: got.count() == 150)
    topic_id = cluster.topic(topic).id
    assert got.rows == {
        Partition("topic", topic_id, 0, topic): numbered(0, 100),
        Partition("topic", topic_id, 1, topic): numbered(100, 150),
    }
    assert {partition.name for partition in got.assigned} == {topic}
    produce(cluster, topic, 1, *numbered(150, 160))
    got.until(lambda: got.count() == 160)


def test_seeks_are_obeyed_whatever_was_read_and_whatever_the_group_says(
    reader: Start, cluster: Cluster, topic: str
):
    produce(cluster, topic, 0, *numbered(0, 100))
    got = reader()
    got.until(lambda: got.count() == 100)
    got.commit()
    [partition] = got.rows
    got.rows.clear()
    got.next.clear()
    got.source.seek(partition, Record(40))
    got.until(lambda: got.count() == 60)
    assert got.rows[partition] == numbered(40, 100)
    got.rows.clear()
    got.next.clear()
    got.source.seek(partition, None)
    got.until(lambda: got.count() == 100)


def test_commits_are_told_to_the_group_with_their_stamp(reader: Start, cluster: Cluster, topic: str):
    produce(cluster, topic, 0, *numbered(0, 100))
    got = reader()
    got.until(lambda: got.count() == 100)
    got.commit("the ledger's uuid")
    place = TopicPartition(topic, 0)
    assert committed_offsets(cluster, f"g-{topic}", [place]) == {place: (100, "the ledger's uuid")}
    [partition] = got.rows
    assert got.memberships[0].offsets([partition]) == {partition: (100, "the ledger's uuid")}
    got.memberships[0].heartbeat()


def test_offsets_that_another_topic_of_the_name_left_are_not_answered(
    reader: Start, cluster: Cluster, topic: str
):
    produce(cluster, topic, 0, *numbered(0, 10))
    got = reader()
    got.until(lambda: got.count() == 10)
    got.commit()
    [partition] = got.rows
    membership = got.memberships[0]
    assert membership.offsets([partition])[partition][0] == 10
    assert membership.offsets([Partition("topic", "f" * 32, 0, topic)]) == {}


def test_lag_is_what_is_left_to_read(reader: Start, cluster: Cluster, topic: str):
    produce(cluster, topic, 0, *numbered(0, 10))
    got = reader()
    assert got.source.lag() is None
    got.until(lambda: got.count() == 10)
    assert got.source.lag() == 0


def test_once_ends_at_the_high_watermarks_of_the_start(reader: Start, cluster: Cluster, topic: str):
    produce(cluster, topic, 0, *numbered(0, 100))
    got = reader(once=True)
    produce(cluster, topic, 0, *numbered(100, 110))
    with pytest.raises(Finished):
        got.until(lambda: False)
    assert set(numbered(0, 100)) <= got.bodies()
    for partition in got.assigned:
        got.source.seek(partition, Record(0))
    got.next.clear()
    got.until(lambda: got.count() >= 200)


def test_once_waits_for_open_transactions(reader: Start, cluster: Cluster, topic: str):
    producer = Producer(cluster, transactional_id=f"t-{topic}")
    producer.init_transactions()
    producer.begin()
    producer.send(TopicPartition(topic, 0), rows_of(*numbered(0, 10)))
    producer.flush()
    got = reader(once=True)
    got.until(lambda: got.assigned)
    assert got.turn() is None
    producer.commit()
    with pytest.raises(Finished):
        got.until(lambda: False)
    assert got.bodies() == set(numbered(0, 10))
    producer.close()


def test_once_with_no_topic_there_ends_and_says_so(reader: Start):
    got = reader("nowhere", once=True)
    with pytest.raises(Finished):
        got.turn()
    assert "does not exist" in got.source.problems()[0].text


def test_aborted_rows_are_passed_over_and_the_position_moves(reader: Start, cluster: Cluster, topic: str):
    producer = Producer(cluster, transactional_id=f"t-{topic}")
    for commit, bodies in ((True, numbered(0, 5)), (False, numbered(5, 10)), (True, numbered(10, 15))):
        producer.init_transactions()
        producer.begin()
        producer.send(TopicPartition(topic, 0), rows_of(*bodies))
        producer.flush()
        if commit:
            producer.commit()
    producer.init_transactions()
    producer.close()
    got = reader()
    got.until(lambda: got.count() == 10)
    assert got.bodies() == {*numbered(0, 5), *numbered(10, 15)}
    [partition] = got.rows
    got.until(lambda: got.next[partition] == 18)


def test_start_at_the_end_is_committed_before_anything_is_read(reader: Start, cluster: Cluster, topic: str):
    produce(cluster, topic, 0, *numbered(0, 100))
    got = reader(start="end")
    got.until(lambda: got.next)
    [(partition, position)] = got.next.items()
    assert (partition.number, position, got.count()) == (0, 100, 0)
    got.commit()
    got.source.close()
    produce(cluster, topic, 0, *numbered(100, 110))
    produce(cluster, topic, 1, *numbered(110, 120))
    again = reader(start="end", stored=got.stored)
    again.until(lambda: again.count() == 20)
    assert again.bodies() == set(numbered(100, 120))


def test_a_topic_that_appears_later_is_read_from_its_beginning(reader: Start, cluster: Cluster, topic: str):
    produce(cluster, topic, 0, *numbered(0, 10))
    later = f"later-{topic}"
    got = reader(topic, later, start="end")
    got.until(lambda: got.next)
    got.commit()
    assert any(later in problem.text for problem in got.source.problems())
    create_topic(cluster, later)
    produce(cluster, later, 0, *numbered(10, 20))
    got.until(lambda: got.count() == 10)
    assert got.bodies() == set(numbered(10, 20))
    assert not got.source.problems()


def test_a_deleted_topic_is_given_up_and_one_made_anew_is_another(
    reader: Start, cluster: Cluster, topic: str
):
    produce(cluster, topic, 0, *numbered(0, 10))
    got = reader()
    got.until(lambda: got.count() == 10)
    old = set(got.assigned)
    delete_topic(cluster, topic)
    got.until(lambda: not got.assigned)
    assert any(topic in problem.text for problem in got.source.problems())
    eventually(lambda: create_topic(cluster, topic, partitions=2))
    produce(cluster, topic, 0, *numbered(50, 60))
    got.until(lambda: got.count() == 20)
    assert not old & got.assigned
    assert got.rows[next(p for p in got.assigned if p.number == 0)] == numbered(50, 60)
    assert not got.source.problems()


def test_a_topic_that_was_only_not_known_for_a_moment_comes_back(
    reader: Start, cluster: Cluster, topic: str, monkeypatch: pytest.MonkeyPatch
):
    produce(cluster, topic, 0, *numbered(0, 10))
    got = reader()
    got.until(lambda: got.count() == 10)
    assigned, poll = set(got.assigned), got.source._fetcher.poll

    def forgetful(timeout: float) -> Any:
        monkeypatch.setattr(got.source._fetcher, "poll", poll)
        raise UnknownTopic(topic, f"topic {topic!r} does not exist")

    monkeypatch.setattr(got.source._fetcher, "poll", forgetful)
    got.stored = {partition: Record(got.next.get(partition, 0)) for partition in assigned}
    got.until(lambda: not got.assigned)
    got.until(lambda: got.assigned == assigned)
    produce(cluster, topic, 0, *numbered(10, 20))
    got.until(lambda: got.count() == 20)


@pytest.mark.parametrize("assignor", ["range", "roundrobin"])
def test_two_members_share_the_partitions_out(reader: Start, cluster: Cluster, topic: str, assignor: str):
    first = reader(assignor=assignor)
    first.until(lambda: len(first.assigned) == 2)
    second = reader(assignor=assignor, instance="1" * 32)
    first.until(lambda: (second.turn(), len(first.assigned) == len(second.assigned) == 1)[1])
    assert [event.lost for event in first.events if isinstance(event, Revoked)] == [False]
    assert not first.assigned & second.assigned
    produce(cluster, topic, 0, *numbered(0, 10))
    produce(cluster, topic, 1, *numbered(10, 20))
    first.until(lambda: (second.turn(), first.count() == second.count() == 10)[1])


def test_a_restart_takes_its_place_back_without_a_rebalance(reader: Start, topic: str):
    first = reader()
    first.until(lambda: first.assigned)
    first.source.close()
    again = reader()
    again.until(lambda: again.assigned)
    assert again.memberships[0].generation == first.memberships[0].generation
    assert again.assigned == first.assigned


@pytest.mark.parametrize("on_gap", ["fail", "record"])
def test_what_retention_deleted_is_named_exactly(tmp_path: Path, reader: Start, on_gap: str):
    with truncated(tmp_path) as (broker, first):
        got = reader("cut", bootstrap=broker.address, on_gap=on_gap)
        [partition] = assigned_of(got)
        got.source.seek(partition, Record(3))
        got.rows.clear()
        got.next[partition] = 3
        if on_gap == "fail":
            with pytest.raises(Halt, match=rf"offsets 3 to {first - 1} "):
                got.until(lambda: got.count() > 0)
            return
        got.until(lambda: got.count() == 400 - first)
        assert [body.strip() for body in got.rows[partition]] == numbered(first, 400)
        gap = next(event for event in got.events if isinstance(event, EventBatch) and event.gap)
        assert (gap.span.start, gap.span.end, gap.num_rows) == (3, first, 0)


def test_a_position_behind_the_logs_end_stops_the_agent(reader: Start, cluster: Cluster, topic: str):
    produce(cluster, topic, 0, *numbered(0, 10))
    got = reader()
    partition = next(p for p in assigned_of(got) if p.number == 0)
    got.source.seek(partition, Record(1000))
    with pytest.raises(Halt, match="1000 is behind the log's end 10"):
        got.until(lambda: False)


def assigned_of(got: Reader) -> set[Partition]:
    got.until(lambda: got.assigned)
    return got.assigned


@contextmanager
def truncated(directory: Path) -> Iterator[tuple[LiveBroker, int]]:
    """A broker whose topic `cut` had 400 rows and has lost its first segments; and the first offset left."""
    settings = {"topics": {"cut": {"partitions": 1, "segment": 20_000}}}
    with LiveBroker(directory / "data", **settings) as broker:
        cluster = Cluster(broker.address)
        for start in range(0, 400, 20):
            produce(cluster, "cut", 0, *(body.ljust(200) for body in numbered(start, start + 20)))
        cluster.close()
    segments = sorted((directory / "data" / "cut-0").glob("*.log"))
    assert len(segments) > 3
    for segment in segments[:2]:
        for path in segment.parent.glob(f"{segment.stem}.*"):
            path.unlink()
    with LiveBroker(directory / "data", **settings) as broker:
        yield broker, int(segments[2].stem)


def test_an_open_transaction_that_holds_rows_back_is_named(
    reader: Start, cluster: Cluster, topic: str, monkeypatch: pytest.MonkeyPatch
):
    clock = ShiftedClock()
    assert kafka_holdups.REPORT_AFTER == 60
    monkeypatch.setattr(kafka_holdups, "REPORT_AFTER", 6)  # a minute ahead, every request would be late
    producer = Producer(cluster, transactional_id=f"t-{topic}")
    producer.init_transactions()
    producer.begin()
    producer.send(TopicPartition(topic, 0), rows_of(*numbered(0, 10)))
    producer.flush()
    produce(cluster, topic, 0, *numbered(10, 20))
    got = reader(clock=clock)
    got.until(lambda: got.source._fetcher.held_back() and got.turn() is None)
    clock.ahead += 2
    got.turn()
    assert not got.source.problems()
    clock.ahead += 5
    got.until(got.source.problems)
    [problem] = got.source.problems()
    assert f"producer id {producer._identity.producer_id}" in problem.text
    assert "offset 0" in problem.text and problem.place == f"{topic}-0"
    producer.commit()
    got.until(lambda: got.count() == 20)
    clock.ahead += 2
    got.until(lambda: not got.source.problems())
    producer.close()


def test_a_broker_that_is_not_there_is_waited_for(reader: Start):
    with pytest.raises(Retry, match=r"127\.0\.0\.1"):
        reader(bootstrap=f"127.0.0.1:{free_port()}")
