"""The Kafka sink against a broker: rows and positions are there together, once, or not at all."""

import itertools
import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tailrace.broker.client.admin import LATEST, create_topic, list_offsets, topic_configs
from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.connection import Connection
from tailrace.broker.client.errors import Disconnected
from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.client.versions import END_TXN
from tailrace.broker.wire.partitioner import partition_of
from tailrace.clock import SystemClock
from tailrace.component import ALL, Context
from tailrace.errors import Corrupt, Fenced, Halt, Rewind
from tailrace.event import HEADERS, EventBatch, Partition, Record, Span, make_rows
from tailrace.sinks import kafka_positions
from tailrace.sinks.kafka import KafkaSink
from tailrace.sinks.kafka_settings import KafkaSinkSettings
from tests.support.live_broker import LiveBroker
from tests.support.running import eventually
from tests.support.topic_rows import bodies_in, rows_in

DAY_MS = 24 * 3600 * 1000
_numbers = itertools.count()


class ShiftedClock(SystemClock):
    """The machine's clock, whose wall can be set forward."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBroker]:
    with LiveBroker(tmp_path_factory.mktemp("broker") / "data", flush_interval=0.05) as broker:
        yield broker


@pytest.fixture
def topic() -> str:
    return f"rows-{next(_numbers)}"


class Sinks:
    """Sinks of one agent; each stands for one run of its process."""

    def __init__(self, context: Context, topic: str) -> None:
        self.context = context
        self.topic = topic
        self.opened: list[KafkaSink] = []

    def __call__(self, *, context: Context | None = None, **settings: Any) -> KafkaSink:
        """Opened, and its positions read where it keeps any."""
        sink = self.unopened(context=context, **settings)
        sink.open()
        if sink._settings.keeps_origins():
            sink.acquire(ALL)
        return sink

    def unopened(self, *, context: Context | None = None, **settings: Any) -> KafkaSink:
        chosen = KafkaSinkSettings(type="kafka", channel="c", topic=self.topic, **settings)
        sink = KafkaSink(chosen, context or self.context)
        self.opened.append(sink)
        return sink


@pytest.fixture
def sinks(broker: LiveBroker, topic: str, tmp_path: Path) -> Iterator[Sinks]:
    context = Context("p", "a", f"wire-{topic}", "0" * 32, tmp_path, broker.address, clock=ShiftedClock())
    made = Sinks(context, topic)
    yield made
    for sink in made.opened:
        sink.close()


def a_file(name: str = "/var/log/a.log") -> Partition:
    return Partition("file", uuid.uuid4().hex, 0, name)


def batch(
    origin: Partition,
    start: int,
    end: int,
    *,
    size: int = 0,
    keys: list[bytes | None] | None = None,
    headers: list[Any] | None = None,
    state: bytes | None = b"state",
) -> EventBatch:
    """Rows `<name> <position>`, one a position."""
    bodies = [f"{origin.name} {n}".encode().ljust(size, b".") for n in range(start, end)]
    rows = make_rows(
        pa.array(bodies, pa.binary()),
        np.arange(start, end),
        1_700_000_000_000,
        key=None if keys is None else pa.array(keys, pa.binary()),
        headers=None if headers is None else pa.array(headers, HEADERS),
    )
    return EventBatch(rows, origin, Span(start, end), state)


def expected(origin: Partition, start: int, end: int) -> list[bytes]:
    return [f"{origin.name} {n}".encode() for n in range(start, end)]


def test_rows_and_positions_are_committed_together(sinks: Sinks, broker: LiveBroker, topic: str):
    origin, sink = a_file(), sinks()
    assert sink.acquire([origin]) == {}
    sink.write(batch(origin, 0, 10))
    assert bodies_in(broker.address, topic) == []
    assert sink.commit() == {origin: 10}
    sink.write(batch(origin, 10, 15, state=None))
    assert sink.commit() == {origin: 15}
    assert bodies_in(broker.address, topic) == expected(origin, 0, 15)
    assert sinks().acquire(ALL) == {origin: Record(15, None)}
    assert (sink.totals.rows, sink.totals.dead_letters) == (15, 0)


def test_a_successor_finds_the_position_state_and_name(sinks: Sinks):
    origin, sink = a_file("/var/log/über.log"), sinks()
    sink.write(batch(origin, 0, 3, state=b"\0\xffstate"))
    sink.commit()
    [(found, record)] = sinks().acquire(ALL).items()
    assert (found, found.name, record) == (origin, "/var/log/über.log", Record(3, b"\0\xffstate"))


def test_what_a_dead_predecessor_left_open_is_never_seen(sinks: Sinks, broker: LiveBroker, topic: str):
    origin, dead = a_file(), sinks()
    dead.write(batch(origin, 0, 10))
    dead.commit()
    dead.write(batch(origin, 10, 20))
    dead._producer.flush()
    successor = sinks()
    assert successor.acquire([origin])[origin].position == 10
    successor.write(batch(origin, 10, 12))
    successor.commit()
    assert bodies_in(broker.address, topic) == expected(origin, 0, 12)
    with pytest.raises(Fenced):
        dead.commit()
    assert bodies_in(broker.address, topic) == expected(origin, 0, 12)


def test_abort_drops_what_is_uncommitted(sinks: Sinks, broker: LiveBroker, topic: str):
    origin, sink = a_file(), sinks()
    sink.write(batch(origin, 0, 5))
    sink.abort()
    assert sink.commit() == {}
    with pytest.raises(Rewind):
        sink.write(batch(origin, 0, 5))
    assert sink.acquire([origin]) == {}
    sink.write(batch(origin, 0, 3))
    sink.commit()
    assert bodies_in(broker.address, topic) == expected(origin, 0, 3)


def test_a_span_without_rows_moves_the_position(sinks: Sinks, broker: LiveBroker, topic: str):
    origin, sink = a_file(), sinks()
    empty = batch(origin, 0, 10)
    sink.write(replace(empty, rows=empty.rows.slice(0, 0)))
    assert sink.commit() == {origin: 10}
    assert sinks().acquire([origin])[origin].position == 10
    assert rows_in(broker.address, topic) == []


def test_a_lost_answer_to_endtxn_is_asked_for_until_it_is_known(
    sinks: Sinks, broker: LiveBroker, topic: str, monkeypatch: pytest.MonkeyPatch
):
    call, lost = Connection.call, []

    def losing(self: Connection, api: int, /, **fields: Any) -> Any:
        answer = call(self, api, **fields)
        if api == END_TXN and len(lost) < 3:
            lost.append(answer)
            self.close()
            raise Disconnected("the answer is lost")
        return answer

    monkeypatch.setattr(Connection, "call", losing)
    origin, sink = a_file(), sinks()
    for start in (0, 5, 10):
        sink.write(batch(origin, start, start + 5))
        assert sink.commit() == {origin: start + 5}
    assert len(lost) == 3
    assert bodies_in(broker.address, topic) == expected(origin, 0, 15)
    assert sinks().acquire([origin])[origin].position == 15


def test_a_transaction_past_its_time_out_is_a_rewind_and_no_rival(
    sinks: Sinks, broker: LiveBroker, topic: str
):
    origin, sink = a_file(), sinks(transaction_timeout=1)
    sink.write(batch(origin, 0, 5))
    sink._producer.flush()
    # the broker's abort marker makes the rows, and the end of the topic, visible to readers of committed rows
    cluster = Cluster(broker.address)
    place = TopicPartition(topic, partition_of(origin.id.encode(), 1))
    wait_for_end(cluster, place, 6)
    cluster.close()
    with pytest.raises(Rewind):
        sink.commit()
    sink.abort()
    assert sink.acquire([origin]) == {}
    sink.write(batch(origin, 0, 2))
    sink.commit()
    assert bodies_in(broker.address, topic) == expected(origin, 0, 2)


def wait_for_end(cluster: Cluster, place: TopicPartition, end: int) -> None:
    eventually(
        lambda: list_offsets(cluster, [place], LATEST, isolation="read_committed")[place] >= end,
        f"{place} ends at {end}",
    )


def test_linger_and_size_ask_for_a_commit(sinks: Sinks):
    origin, sink = a_file(), sinks(linger=0, transaction_size=10_000)
    assert not sink.due()
    sink.write(batch(origin, 0, 1))
    assert sink.due()
    sink.commit()
    assert not sink.due()
    patient = sinks(linger=20, transaction_size=10_000)
    patient.write(batch(origin, 1, 2))
    assert not patient.due()
    patient.write(batch(origin, 2, 12, size=1000))
    assert patient.due()


def test_linger_is_at_most_a_third_of_the_transactions_time_out(sinks: Sinks):
    assert sinks.unopened(linger=600, transaction_timeout=60)._linger == 20


def test_positions_are_refused_where_they_would_be_forgotten(tmp_path: Path):
    with LiveBroker(tmp_path / "data") as broker:
        cluster = Cluster(broker.address)
        create_topic(cluster, kafka_positions.TOPIC)
        context = Context("p", "a", "wire", "0" * 32, tmp_path, broker.address)
        sink = KafkaSink(KafkaSinkSettings(type="kafka", channel="c", topic="t"), context)
        with pytest.raises(Halt, match=r"cleanup\.policy"):
            sink.open()
        sink.close()
        cluster.close()


def test_the_positions_topic_is_made_compacted(sinks: Sinks, broker: LiveBroker):
    sinks()
    cluster = Cluster(broker.address)
    assert topic_configs(cluster, kafka_positions.TOPIC)["cleanup.policy"] == "compact"
    assert len(cluster.topic(kafka_positions.TOPIC).partitions) == kafka_positions.PARTITIONS
    cluster.close()


def test_instances_agents_and_sinks_have_positions_of_their_own(sinks: Sinks):
    origin = a_file()
    first = sinks()
    first.write(batch(origin, 0, 5))
    first.commit()
    for change in ({"instance": "1" * 32}, {"agent": "b"}, {"pipeline": "q"}, {"name": "other"}):
        other = sinks(context=replace(sinks.context, **change))
        assert other.acquire(ALL) == {}, change
        other.write(batch(origin, 0, 1))
        other.commit()
    first.write(batch(origin, 5, 6))
    first.commit()
    assert sinks().acquire(ALL)[origin].position == 6


def test_a_file_gone_for_seven_days_is_forgotten_and_one_that_came_back_is_not(sinks: Sinks):
    clock = sinks.context.clock
    assert isinstance(clock, ShiftedClock)
    gone, back, here = a_file("gone"), a_file("back"), a_file("here")
    sink = sinks()
    for origin in (gone, back, here):
        sink.write(batch(origin, 0, 5))
    sink.commit()
    sink.revoke([gone, back], lost=False)
    sink.write(batch(here, 5, 6))
    sink.commit()
    sink = sinks()
    assert set(sink.acquire(ALL)) == {gone, back, here}
    sink.acquire([back])
    sink.write(batch(here, 6, 7))
    sink.commit()
    clock.ahead_ms = 8 * DAY_MS
    sink = sinks()
    sink.write(batch(here, 7, 8))
    sink.commit()
    assert set(sinks().acquire(ALL)) == {back, here}


@pytest.fixture
def seven(broker: LiveBroker, topic: str) -> str:
    cluster = Cluster(broker.address)
    create_topic(cluster, topic, partitions=7)
    cluster.close()
    return topic


def test_rows_of_one_file_stay_together(sinks: Sinks, broker: LiveBroker, seven: str):
    sink, files = sinks(), [a_file(f"f{n}") for n in range(5)]
    for origin in files:
        sink.write(batch(origin, 0, 20))
    sink.commit()
    rows = rows_in(broker.address, seven)
    for origin in files:
        mine = [
            row for row in rows if row.body is not None and row.body.startswith(origin.name.encode() + b" ")
        ]
        assert {row.partition for row in mine} == {partition_of(origin.id.encode(), 7)}
        assert [row.body for row in mine] == expected(origin, 0, 20)


def test_rows_go_by_their_key_as_with_every_other_client(sinks: Sinks, broker: LiveBroker, seven: str):
    keys = [None if n % 10 == 0 else b"user %d" % (n % 13) for n in range(300)]
    origin, sink = a_file(), sinks(partition_by="key")
    sink.write(batch(origin, 0, 300, keys=keys))
    sink.commit()
    rows = rows_in(broker.address, seven)
    assert len(rows) == 300
    for row in rows:
        assert row.partition == partition_of(row.key or origin.id.encode(), 7)
    for key in {*keys}:
        numbers = [int((row.body or b"").split()[-1]) for row in rows if row.key == key]
        assert numbers == sorted(numbers) and numbers


def test_rows_go_by_a_header(sinks: Sinks, broker: LiveBroker, seven: str):
    headers = [[("host", b"h%d" % (n % 5)), ("x", None)] if n % 4 else None for n in range(100)]
    origin, sink = a_file(), sinks(partition_by="header:host")
    sink.write(batch(origin, 0, 100, headers=headers))
    sink.commit()
    for row in rows_in(broker.address, seven):
        assert row.partition == partition_of(dict(row.headers).get("host") or origin.id.encode(), 7)


def test_batches_go_round(sinks: Sinks, broker: LiveBroker, seven: str):
    origin, sink = a_file(), sinks(partition_by="round_robin")
    for n in range(14):
        sink.write(batch(origin, 3 * n, 3 * n + 3))
    sink.commit()
    rows = rows_in(broker.address, seven)
    assert [sum(row.partition == number for row in rows) for number in range(7)] == [6] * 7


def small_topic(broker: LiveBroker, topic: str) -> None:
    cluster = Cluster(broker.address)
    create_topic(cluster, topic, configs={"max.message.bytes": "4000"})
    cluster.close()


def test_batches_obey_the_topics_largest_message(sinks: Sinks, broker: LiveBroker, topic: str):
    small_topic(broker, topic)
    origin, sink = a_file(), sinks()
    sink.write(batch(origin, 0, 100, size=1500))
    sink.commit()
    assert [body[:20] for body in bodies_in(broker.address, topic)] == [
        body.ljust(1500, b".")[:20] for body in expected(origin, 0, 100)
    ]


def test_a_row_that_does_not_fit_goes_to_the_dead_letters_in_the_same_transaction(
    sinks: Sinks, broker: LiveBroker, topic: str
):
    small_topic(broker, topic)
    origin, sink = a_file(), sinks()
    sizes = [10, 5000, 10, 10, 9000, 9000, 10]
    rows = make_rows(pa.array([b"x" * size for size in sizes], pa.binary()), np.arange(7), 1_700_000_000_000)
    sink.write(EventBatch(rows, origin, Span(0, 7)))
    assert rows_in(broker.address, f"{topic}.dead") == []
    assert sink.commit() == {origin: 7}
    assert [len(body or b"") for body in bodies_in(broker.address, topic)] == [10] * 4
    dead = rows_in(broker.address, f"{topic}.dead")
    assert [len(row.body or b"") for row in dead] == [5000, 9000, 9000]
    assert [dict(row.headers)["tailrace.position"] for row in dead] == [b"1", b"4", b"5"]
    assert dict(dead[0].headers)["tailrace.origin"] == b"/var/log/a.log"
    assert b"max.message.bytes" in (dict(dead[0].headers)["tailrace.reason"] or b"")
    assert (sink.totals.rows, sink.totals.dead_letters) == (4, 3)


def test_a_row_that_does_not_fit_stops_the_sink_when_so_set(sinks: Sinks, broker: LiveBroker, topic: str):
    small_topic(broker, topic)
    origin, sink = a_file(), sinks(too_large="stop")
    with pytest.raises(Corrupt, match=r"/var/log/a.log.*max.message.bytes"):
        sink.write(batch(origin, 0, 1, size=5000))


@pytest.mark.parametrize("acks", [1, "all", 0])
def test_without_transactions_rows_are_there_at_once(sinks: Sinks, broker: LiveBroker, topic: str, acks: Any):
    origin, sink = a_file(), sinks(transactional=False, acks=acks)
    sink.write(batch(origin, 0, 100))
    assert sink.commit() == {origin: 100}
    eventually(lambda: len(bodies_in(broker.address, topic)) == 100)
    sink.write(batch(origin, 100, 110))
    sink.abort()
    sink.write(batch(origin, 100, 120))
    sink.commit()
    eventually(lambda: set(bodies_in(broker.address, topic)) == set(expected(origin, 0, 120)))
    assert not sink._settings.keeps_origins()


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_rows_come_out_as_they_went_in(sinks: Sinks, broker: LiveBroker, topic: str, codec: Any):
    origin, sink = a_file(), sinks(compression=codec)
    sink.write(batch(origin, 0, 500))
    sink.commit()
    assert bodies_in(broker.address, topic) == expected(origin, 0, 500)


def test_positions_can_be_looked_at_while_the_agent_runs_and_forgotten_when_it_does_not(sinks: Sinks):
    one, two = a_file("one"), a_file("two")
    running = sinks()
    for origin in (one, two):
        running.write(batch(origin, 0, 5))
    running.commit()
    looking = sinks.unopened()
    looking.open()
    assert looking.stored() == {one: Record(5, b"state"), two: Record(5, b"state")}
    running.write(batch(one, 5, 6))
    assert running.commit() == {one: 6}
    forgetting = sinks.unopened()
    forgetting.open()
    forgetting.forget([one])
    assert set(sinks().acquire(ALL)) == {two}


def test_what_is_no_position_of_ours_is_refused_with_its_key():
    for value in (
        b"",
        b"[]",
        b"{}",
        b'{"version":1,"position":"x","name":"n"}',
        b'{"version":1,"position":1}',
    ):
        with pytest.raises(Corrupt, match="not a position"):
            kafka_positions.decode(json.dumps(["p", "a", "s", "i", "file/ab/0"]).encode(), value)
    for key in (b"x", b"[]", b'["p","a","s","i","nonsense"]', b"[1]", b"{}"):
        with pytest.raises(Corrupt, match="not a position"):
            kafka_positions.decode(key, b'{"version":1,"position":1,"name":"n"}')
    with pytest.raises(Halt, match="newer"):
        kafka_positions.decode(b'["file/ab/0"]', b'{"version":2,"position":1,"name":"n"}')
