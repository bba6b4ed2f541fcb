"""broker.client against a real server: the same tests for the built-in broker and for Apache Kafka."""

import itertools
import threading
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from tailrace.broker.client import fetcher as fetcher_module
from tailrace.broker.client.admin import (
    EARLIEST,
    LATEST,
    committed_offsets,
    create_topic,
    delete_topic,
    ensure_compacted,
    list_offsets,
    topic_configs,
)
from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.errors import OffsetOutOfRange, Refused, RowTooLarge, UnknownTopic
from tailrace.broker.client.fetcher import Fetcher
from tailrace.broker.client.group import Group, Joined, Left
from tailrace.broker.client.producer import Producer
from tailrace.broker.client.topics import TopicPartition
from tailrace.errors import Fenced, Halt, Retry, Rewind
from tailrace.event import HEADERS, make_rows
from tests.support.kafka_server import running_kafka
from tests.support.live_broker import LiveBroker
from tests.support.rows import numbered, rows_of

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
_numbers = itertools.count()


@pytest.fixture(scope="module", params=["tailrace", pytest.param("kafka", marks=pytest.mark.interop)])
def bootstrap(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp(request.param)
    if request.param == "kafka":
        with running_kafka(directory / "server") as server:
            yield server.bootstrap
    else:
        with LiveBroker(directory / "data", flush_interval=0.05) as broker:
            yield broker.address


@pytest.fixture
def cluster(bootstrap: str) -> Iterator[Cluster]:
    cluster = Cluster(bootstrap)
    yield cluster
    cluster.close()


@pytest.fixture
def topic(cluster: Cluster) -> str:
    name = f"topic-{next(_numbers)}"
    create_topic(cluster, name, partitions=3)
    return name


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"name-{next(_numbers)}"


def read(cluster, partitions, *, count, isolation="read_committed", start=0):
    """Batches until `count` rows were read; all rows in the order they came."""
    fetcher = Fetcher(cluster, isolation=isolation, max_wait=0.1)
    for partition in partitions:
        fetcher.seek(partition, start)
    batches, got = [], 0
    until = time.monotonic() + 30
    while got < count:
        assert time.monotonic() < until, f"{got} of {count} rows"
        fetched = fetcher.poll(0.2)
        if fetched is not None:
            batches.append(fetched)
            got += fetched.rows.num_rows
    fetcher.close()
    return batches


def bodies(batches):
    return [body.strip() for fetched in batches for body in fetched.rows.column("body").to_pylist()]


def wanted(start, end):
    return [b"%d" % n for n in range(start, end)]


def change(group, seconds=30.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            found = group.poll_membership(0.1)
        except Retry:
            # A coordinator that has only just become one.
            found = None
        if found is not None:
            return found
        time.sleep(0.01)
    raise AssertionError(f"no change within {seconds} s")


def test_a_topic_is_made_once_and_known_by_its_id(cluster, name):
    assert create_topic(cluster, name, partitions=3, configs={"retention.ms": "12345678"})
    assert not create_topic(cluster, name, partitions=3)
    topic = cluster.topic(name)
    assert len(topic.partitions) == 3
    assert topic.id is not None and len(topic.id) == 32
    assert cluster.cluster_id
    assert topic_configs(cluster, name, ("retention.ms",)) == {"retention.ms": "12345678"}
    assert "max.message.bytes" in topic_configs(cluster, name)


def test_a_deleted_topic_is_gone_and_one_made_again_is_another(cluster, topic):
    before = cluster.topic(topic).id
    assert delete_topic(cluster, topic)
    assert not delete_topic(cluster, topic)
    with pytest.raises(UnknownTopic):
        cluster.topic(topic, fresh=True)
    with pytest.raises(UnknownTopic):
        topic_configs(cluster, topic)
    create_topic(cluster, topic)
    assert cluster.topic(topic).id != before


def test_a_name_or_a_setting_that_cannot_be_is_refused(cluster, name):
    with pytest.raises(Refused, match="INVALID_TOPIC_EXCEPTION"):
        create_topic(cluster, "no/slashes")
    with pytest.raises(Refused, match="INVALID_CONFIG"):
        create_topic(cluster, name, configs={"cleanup.policy": "maybe"})


def test_a_compacted_topic_is_ensured_and_another_is_refused(cluster, topic, name):
    ensure_compacted(cluster, name)
    ensure_compacted(cluster, name)
    assert topic_configs(cluster, name, ("cleanup.policy",)) == {"cleanup.policy": "compact"}
    with pytest.raises(Halt, match=f"topic '{topic}' has cleanup.policy=delete"):
        ensure_compacted(cluster, topic)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("acks", ["all", 1])
def test_rows_come_back_in_order_with_each_codec(cluster, topic, codec, acks):
    producer = Producer(cluster, acks=acks, codec=codec, batch_bytes=20_000)
    partition = TopicPartition(topic, 1)
    for start in range(0, 6000, 1500):
        producer.send(partition, numbered(start, start + 1500, size=40))
    producer.flush()
    batches = read(cluster, [partition], count=6000)
    assert bodies(batches) == wanted(0, 6000)
    positions = np.concatenate([b.rows.column("position").to_numpy() for b in batches])
    assert np.array_equal(positions, np.arange(6000))
    producer.close()


def test_acks_0_arrives(cluster, topic):
    producer = Producer(cluster, acks=0)
    partition = TopicPartition(topic, 0)
    producer.send(partition, numbered(0, 10))
    producer.flush()
    assert bodies(read(cluster, [partition], count=10)) == wanted(0, 10)


def test_keys_headers_times_and_nulls_come_back(cluster, topic):
    headers = pa.array([[("a", b"1"), ("b", None)], [], None], HEADERS)
    sent = make_rows(
        pa.array([b"x", None, b""], pa.binary()),
        np.arange(3),
        pa.array([1_700_000_000_123, 5, 1_700_000_000_000], pa.int64()).cast(pa.timestamp("ms", tz="UTC")),
        key=pa.array([b"k", b"k2", None], pa.binary()),
        headers=headers,
    )
    producer = Producer(cluster)
    producer.send(TopicPartition(topic, 0), sent)
    producer.flush()
    (fetched,) = read(cluster, [TopicPartition(topic, 0)], count=3)
    assert fetched.rows.column("body").to_pylist() == [b"x", None, b""]
    assert fetched.rows.column("key").to_pylist() == [b"k", b"k2", None]
    assert fetched.rows.column("timestamp").equals(sent.column("timestamp"))
    got = [list(row or []) for row in fetched.rows.column("headers").to_pylist()]
    assert got == [[("a", b"1"), ("b", None)], [], []]


def test_many_partitions_are_written_and_read_at_once(cluster, topic):
    partitions = [TopicPartition(topic, n) for n in range(3)]
    producer = Producer(cluster, batch_bytes=5_000)
    for start in range(0, 3000, 100):
        for partition in partitions:
            producer.send(partition, numbered(start, start + 100, size=30))
    producer.flush()
    batches = read(cluster, partitions, count=9000)
    for partition in partitions:
        assert bodies([b for b in batches if b.partition == partition]) == wanted(0, 3000)
    assert list_offsets(cluster, partitions) == dict.fromkeys(partitions, 3000)


def test_reading_starts_within_a_batch(cluster, topic):
    producer = Producer(cluster)
    partition = TopicPartition(topic, 0)
    producer.send(partition, numbered(0, 100))
    producer.flush()
    batches = read(cluster, [partition], count=37, start=63)
    assert batches[0].start == 63
    assert bodies(batches) == wanted(63, 100)


def test_a_batch_larger_than_a_fetch_comes_whole(cluster, topic):
    producer = Producer(cluster)
    partition = TopicPartition(topic, 0)
    producer.send(partition, numbered(0, 5000, size=100))
    producer.flush()
    fetcher = Fetcher(cluster, max_bytes=1000, partition_bytes=1000)
    fetcher.seek(partition, 0)
    fetched = fetcher.poll(20)
    assert fetched is not None and fetched.rows.num_rows == 5000
    fetcher.close()


def test_batches_obey_the_topics_limit(cluster, name):
    create_topic(cluster, name, configs={"max.message.bytes": "10000"})
    partition = TopicPartition(name, 0)
    producer = Producer(cluster)
    producer.send(partition, numbered(0, 2000, size=100))
    with pytest.raises(RowTooLarge):
        producer.send(partition, rows_of(b"x" * 11_000))
    producer.flush()
    assert bodies(read(cluster, [partition], count=2000)) == wanted(0, 2000)


def test_a_limit_that_shrank_unheard_is_obeyed_by_splitting(cluster, name):
    create_topic(cluster, name, configs={"max.message.bytes": "3000"})
    partition = TopicPartition(name, 0)
    producer = Producer(cluster)
    outbox = producer._dispatch.outbox(partition)
    outbox.limit = outbox.target = 50_000
    producer.send(partition, numbered(0, 1000, size=100))
    producer.send(partition, numbered(1000, 1010, size=100))
    producer.flush()
    assert bodies(read(cluster, [partition], count=1010)) == wanted(0, 1010)


def test_out_of_range_tells_the_range(cluster, topic):
    producer = Producer(cluster)
    partition = TopicPartition(topic, 0)
    producer.send(partition, numbered(0, 10))
    producer.flush()
    fetcher = Fetcher(cluster, max_wait=0.1)
    fetcher.seek(partition, 11)
    with pytest.raises(OffsetOutOfRange) as caught:
        fetcher.poll(20)
    assert (caught.value.log_start, caught.value.log_end) == (0, 10)
    fetcher.seek(partition, 10)
    assert fetcher.poll(0.3) is None
    producer.send(partition, numbered(10, 11))
    producer.flush()
    fetched = fetcher.poll(20)
    assert fetched is not None and bodies([fetched]) == [b"10"]
    fetcher.close()


def test_a_topic_deleted_while_it_is_read_is_named(cluster, topic):
    partition = TopicPartition(topic, 0)
    fetcher = Fetcher(cluster, max_wait=0.1)
    fetcher.seek(partition, 0)
    assert fetcher.poll(0.3) is None
    other = Cluster(",".join(str(node).partition(" ")[0] for node in cluster.nodes))
    delete_topic(other, topic)
    until = time.monotonic() + 20
    with pytest.raises(UnknownTopic):
        while time.monotonic() < until:
            fetcher.poll(0.1)
    fetcher.close()


def test_offsets_are_found_by_time(cluster, topic):
    partition = TopicPartition(topic, 0)
    producer = Producer(cluster)
    for n in range(5):
        producer.send(partition, rows_of(b"%d" % n, timestamp=1_700_000_000_000 + n * 1000))
        producer.flush()
    assert list_offsets(cluster, [partition], EARLIEST) == {partition: 0}
    assert list_offsets(cluster, [partition], LATEST) == {partition: 5}
    assert list_offsets(cluster, [partition], 1_700_000_002_500) == {partition: 3}
    assert list_offsets(cluster, [partition], 1_800_000_000_000) == {partition: -1}


def test_committed_rows_are_seen_and_aborted_ones_are_not(cluster, topic, name):
    partition = TopicPartition(topic, 0)
    producer = Producer(cluster, transactional_id=name, batch_bytes=2_000)
    producer.init_transactions()
    for n in range(6):
        producer.begin()
        producer.send(partition, numbered(n * 100, n * 100 + 100, size=30))
        if n % 2:
            producer.flush()
            producer.abort()
        else:
            producer.commit()
    seen = bodies(read(cluster, [partition], count=300))
    assert seen == wanted(0, 100) + wanted(200, 300) + wanted(400, 500)
    all_rows = bodies(read(cluster, [partition], count=600, isolation="read_uncommitted"))
    assert all_rows == wanted(0, 600)


def test_rows_of_an_open_transaction_wait_for_its_end(cluster, topic, name):
    partition = TopicPartition(topic, 0)
    producer = Producer(cluster, transactional_id=name)
    producer.init_transactions()
    producer.begin()
    producer.send(partition, numbered(0, 5))
    producer.flush()
    assert list_offsets(cluster, [partition], isolation="read_committed") == {partition: 0}
    assert list_offsets(cluster, [partition], isolation="read_uncommitted") == {partition: 5}
    fetcher = Fetcher(cluster, max_wait=0.05)
    fetcher.seek(partition, 0)
    assert fetcher.poll(0.2) is None
    producer.commit()
    fetched = fetcher.poll(20)
    assert fetched is not None and bodies([fetched]) == wanted(0, 5)
    fetcher.close()


def test_one_transaction_spans_topics_and_a_compacted_one(cluster, topic, name):
    ensure_compacted(cluster, name)
    producer = Producer(cluster, transactional_id=name)
    producer.init_transactions()
    for n in range(3):
        producer.begin()
        for partition in range(3):
            producer.send(TopicPartition(topic, partition), numbered(n * 10, n * 10 + 10))
        producer.send(TopicPartition(name, 0), rows_of(b"at %d" % n, keys=[b"key"]))
        producer.commit()
    positions = bodies(read(cluster, [TopicPartition(name, 0)], count=3))
    assert positions == [b"at 0", b"at 1", b"at 2"]
    for partition in range(3):
        assert bodies(read(cluster, [TopicPartition(topic, partition)], count=30)) == wanted(0, 30)


def test_a_later_producer_of_the_same_id_fences_the_earlier_and_drops_what_it_left_open(cluster, topic, name):
    partition = TopicPartition(topic, 0)
    old = Producer(cluster, transactional_id=name)
    old.init_transactions()
    old.begin()
    old.send(partition, numbered(0, 5))
    old.flush()
    new = Producer(cluster, transactional_id=name)
    new.init_transactions()
    with pytest.raises(Fenced, match="a producer with the same transactional id"):
        old.commit()
    new.begin()
    new.send(partition, numbered(5, 8))
    new.commit()
    assert bodies(read(cluster, [partition], count=3)) == wanted(5, 8)
    with pytest.raises(Fenced):
        old.begin()
    old.init_transactions()
    new.begin()
    new.send(partition, numbered(8, 9))
    with pytest.raises(Fenced):
        new.commit()


def test_a_transaction_past_its_time_out_is_aborted(cluster, topic, name):
    partition = TopicPartition(topic, 0)
    producer = Producer(cluster, transactional_id=name, transaction_timeout=1.0)
    producer.init_transactions()
    producer.begin()
    producer.send(partition, numbered(0, 5))
    producer.flush()
    until = time.monotonic() + 60
    end = list_offsets(cluster, [partition])[partition]
    while list_offsets(cluster, [partition], isolation="read_committed")[partition] <= end:
        assert time.monotonic() < until
        time.sleep(0.1)
    with pytest.raises((Fenced, Rewind)):
        producer.commit()
    producer.init_transactions()
    producer.begin()
    producer.send(partition, numbered(5, 6))
    producer.commit()
    assert bodies(read(cluster, [partition], count=1)) == [b"5"]


def test_a_transaction_time_out_that_is_too_long_is_refused(cluster, name):
    producer = Producer(cluster, transactional_id=name, transaction_timeout=1e6)
    with pytest.raises(Refused, match="INVALID_TRANSACTION_TIMEOUT"):
        producer.init_transactions()


def test_a_lost_connection_in_a_transaction_loses_and_doubles_nothing(cluster, topic, name):
    partition = TopicPartition(topic, 0)
    producer = Producer(cluster, transactional_id=name, batch_bytes=3_000)
    producer.init_transactions()
    for n in range(4):
        producer.begin()
        producer.send(partition, numbered(n * 500, n * 500 + 500, size=30))
        for sender in producer._dispatch._senders.values():
            assert sender._connection is not None
            sender._connection._open.shutdown(2)
        producer.commit()
    assert bodies(read(cluster, [partition], count=2000)) == wanted(0, 2000)


def test_a_group_shares_its_partitions_and_hands_them_on(bootstrap, cluster, topic, name):
    partitions = tuple(TopicPartition(topic, n) for n in range(3))
    first = Group(cluster, name, [topic], heartbeat_interval=0.1)
    joined = change(first)
    assert joined.partitions == partitions
    joined.generation.heartbeat()
    joined.generation.commit({partitions[0]: (5, "a stamp"), partitions[1]: (6, "")})
    second = Group(Cluster(bootstrap), name, [topic], heartbeat_interval=0.1)
    joining = threading.Thread(target=lambda: results.append(change(second)))
    results: list[object] = []
    joining.start()
    assert change(first) == Left(partitions, lost=False)
    joined.generation.heartbeat()
    again = change(first)
    joining.join()
    (other,) = results
    assert isinstance(again, Joined) and isinstance(other, Joined)
    assert sorted([*again.partitions, *other.partitions]) == list(partitions)
    assert {len(again.partitions), len(other.partitions)} == {1, 2}
    with pytest.raises(Fenced):
        joined.generation.heartbeat()
    assert other.generation.committed(partitions) == {partitions[0]: (5, "a stamp"), partitions[1]: (6, "")}
    second.close()
    assert change(first) == Left(again.partitions, lost=False)
    assert change(first).partitions == partitions
    first.close()


def test_a_static_member_takes_its_place_back_without_a_rebalance(cluster, topic, name):
    settings = {"instance_id": "one", "heartbeat_interval": 0.1}
    first = Group(cluster, name, [topic], **settings)
    generation = change(first).generation
    first.close()
    second = Group(cluster, name, [topic], **settings)
    joined = change(second)
    assert len(joined.partitions) == 3
    assert joined.generation.generation == generation.generation
    assert second.poll_membership() is None
    second.leave()
    second.close()


def test_a_second_process_with_the_same_instance_id_fences_the_first(cluster, topic, name):
    first = Group(cluster, name, [topic], instance_id="one", heartbeat_interval=0.1)
    generation = change(first).generation
    second = Group(cluster, name, [topic], instance_id="one", heartbeat_interval=0.1)
    assert isinstance(change(second), Joined)
    with pytest.raises(Fenced):
        generation.heartbeat()
    with pytest.raises(Fenced):
        generation.commit({TopicPartition(topic, 0): (1, "")})
    with pytest.raises(Fenced, match="another process has joined as 'one'"):
        change(first)
    first.close()
    second.leave()
    second.close()


def test_roundrobin_and_range_groups_find_a_common_assignor(bootstrap, cluster, topic, name):
    first = Group(cluster, name, [topic], assignors=("range", "roundrobin"), heartbeat_interval=0.1)
    change(first)
    second = Group(Cluster(bootstrap), name, [topic], assignors=("roundrobin",), heartbeat_interval=0.1)
    results: list[object] = []
    joining = threading.Thread(target=lambda: results.append(change(second)))
    joining.start()
    assert isinstance(change(first), Left)
    mine = change(first)
    joining.join()
    assert sorted(len(joined.partitions) for joined in (mine, results[0])) == [1, 2]
    third = Group(Cluster(bootstrap), name, [topic], assignors=("range",))
    with pytest.raises(Refused, match="none of the assignors range"):
        change(third)
    for group in (third, second, first):
        group.close()


def test_offsets_go_with_the_transaction_and_with_the_generation(cluster, topic, name):
    partition = TopicPartition(topic, 0)
    group = Group(cluster, name, [topic], instance_id="one", heartbeat_interval=0.1)
    old = change(group).generation
    producer = Producer(cluster, transactional_id=name)
    producer.init_transactions()
    producer.begin()
    producer.send(partition, numbered(0, 5))
    producer.send_offsets(old, {partition: (17, "in a transaction")})
    producer.commit()
    assert committed_offsets(cluster, name, [partition]) == {partition: (17, "in a transaction")}
    producer.begin()
    producer.send_offsets(old, {partition: (18, "")})
    producer.abort()
    assert committed_offsets(cluster, name, [partition]) == {partition: (17, "in a transaction")}
    usurper = Group(cluster, name, [topic], instance_id="one", heartbeat_interval=0.1)
    change(usurper)
    producer.begin()
    with pytest.raises(Rewind):
        producer.send_offsets(old, {partition: (19, "")})
    producer.abort()
    assert committed_offsets(cluster, name, [partition]) == {partition: (17, "in a transaction")}
    group.close()
    usurper.leave()
    usurper.close()


def test_what_librdkafka_writes_is_read_and_what_we_write_it_reads(bootstrap, cluster, topic):
    confluent = pytest.importorskip("confluent_kafka")
    theirs = confluent.Producer({"bootstrap.servers": bootstrap, "compression.type": "lz4"})
    for n in range(1000):
        theirs.produce(topic, b"%d" % n, partition=0)
    theirs.flush()
    assert bodies(read(cluster, [TopicPartition(topic, 0)], count=1000)) == wanted(0, 1000)
    ours = Producer(cluster, codec="zstd")
    ours.send(TopicPartition(topic, 1), numbered(0, 1000))
    ours.flush()
    consumer = confluent.Consumer({"bootstrap.servers": bootstrap, "group.id": f"judge-{topic}"})
    consumer.assign([confluent.TopicPartition(topic, 1, 0)])
    got = []
    until = time.monotonic() + 30
    while len(got) < 1000 and time.monotonic() < until:
        got += [message.value() for message in consumer.consume(1000, 0.5)]
    consumer.close()
    assert got == wanted(0, 1000)


@pytest.mark.parametrize("leader", ["ours", "theirs"])
@pytest.mark.parametrize("assignor", ["range", "roundrobin"])
def test_a_group_is_shared_with_librdkafka_whoever_leads(bootstrap, cluster, topic, name, leader, assignor):
    confluent = pytest.importorskip("confluent_kafka")
    ours = Group(cluster, name, [topic], assignors=(assignor,), heartbeat_interval=0.1)
    theirs = confluent.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": name,
            "partition.assignment.strategy": assignor,
            "heartbeat.interval.ms": 100,
            "session.timeout.ms": 6000,
        }
    )
    shares: dict[str, list[int]] = {}

    def step_ours() -> None:
        try:
            found = ours.poll_membership()
        except Retry:
            return
        if isinstance(found, Joined):
            shares["ours"] = [partition.partition for partition in found.partitions]

    def step_theirs() -> None:
        theirs.poll(0.02)
        shares["theirs"] = sorted(entry.partition for entry in theirs.assignment())

    def shared() -> list[int]:
        return sorted(itertools.chain.from_iterable(shares.values()))

    first, second = (step_ours, step_theirs) if leader == "ours" else (step_theirs, step_ours)
    until = time.monotonic() + 60
    if leader == "theirs":
        theirs.subscribe([topic])
    while shares.get(leader) != [0, 1, 2]:
        assert time.monotonic() < until, shares
        first()
        time.sleep(0.01)
    if leader == "ours":
        theirs.subscribe([topic])
    while sorted(map(len, shares.values())) != [1, 2] or shared() != [0, 1, 2]:
        assert time.monotonic() < until, shares
        first()
        second()
        time.sleep(0.01)
    theirs.close()
    ours.close()


def test_rows_that_decompress_to_much_come_in_parts(
    cluster: Cluster, topic: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fetcher_module, "_ENOUGH", 100_000)
    place = TopicPartition(topic, 0)
    producer = Producer(cluster, codec="zstd", batch_bytes=60_000)
    producer.send(place, numbered(0, 3000, 200))
    producer.flush()
    producer.close()
    fetcher = Fetcher(cluster)
    fetcher.seek(place, 10)
    spans, rows = [], []
    while not spans or spans[-1][1] < 3000:
        fetched = fetcher.poll(1.0)
        if fetched is not None:
            spans.append((fetched.start, fetched.end))
            rows += [int(body) for body in fetched.rows.column("body").to_pylist()]
            assert fetched.rows.nbytes < 300_000
    assert len(spans) > 3
    assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))
    assert rows == list(range(10, 3000))
    fetcher.close()
