"""What every Kafka client must be able to do with our broker, in terms of an adapter for each client."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from tailrace.broker.wire.batch import headers
from tailrace.broker.wire.coordinator_records import (
    GroupMetadataKey,
    GroupMetadataValue,
    decode_group_key,
    decode_value,
)
from tailrace.broker.wire.reference import decode_simple
from tests.support.live_broker import LiveBroker

PATIENCE = 30.0
"""Seconds until something that must come has not come."""


@dataclass(frozen=True)
class Row:
    partition: int
    offset: int
    value: bytes


class Producer(Protocol):
    def send(self, topic: str, partition: int, value: bytes) -> None: ...
    def flush(self) -> None:
        """Returns when every row is acknowledged; raises when one is refused."""
        ...

    def begin(self) -> None: ...
    def send_offsets(self, consumer: "Consumer") -> None:
        """The consumer's positions, with its membership, into the open transaction."""
        ...

    def commit(self) -> None: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...


class Consumer(Protocol):
    def poll(self) -> list[Row]:
        """What is there within about 200 ms."""
        ...

    def assignment(self) -> set[int]: ...
    def commit(self) -> None: ...
    def close(self) -> None: ...


class Clients(Protocol):
    """An adapter. A group's heartbeats are every 300 ms, so that a rebalance is not long."""

    fenced: tuple[type[Exception], ...]
    """What a producer raises when another one has its transactional id."""

    def producer(self, *, idempotent: bool = False, transactional_id: str | None = None) -> Producer: ...
    def consumer(
        self, topic: str, group: str, *, read_committed: bool = False, instance: str | None = None
    ) -> Consumer: ...


Case = Callable[[Clients, LiveBroker], None]
_numbers = itertools.count()


def fresh_topic(broker: LiveBroker, partitions: int) -> str:
    name = f"rows-{next(_numbers)}"
    with broker.client() as client:
        client.create(name, partitions)
    return name


def values(prefix: str, n: int) -> list[bytes]:
    return [f"{prefix}{i}".encode() for i in range(n)]


def send_all(producer: Producer, topic: str, partitions: int, rows: Collection[bytes]) -> None:
    for i, value in enumerate(rows):
        producer.send(topic, i % partitions, value)
    producer.flush()


def read(consumers: Collection[Consumer], wanted: int) -> list[Row]:
    """At least `wanted` rows from all consumers together, and what one more poll of each brings."""
    rows: list[Row] = []
    deadline = time.monotonic() + PATIENCE
    while len(rows) < wanted:
        assert time.monotonic() < deadline, f"{len(rows)} of {wanted} rows came"
        for consumer in consumers:
            rows += consumer.poll()
    for consumer in consumers:
        rows += consumer.poll()
    return rows


def until(consumers: Collection[Consumer], condition: Callable[[], bool], what: str) -> list[Row]:
    """Polls all until the condition holds; the rows that came meanwhile."""
    rows: list[Row] = []
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        for consumer in consumers:
            rows += consumer.poll()
    return rows


def assert_rows(rows: list[Row], expected: Collection[bytes]) -> None:
    assert Counter(row.value for row in rows) == Counter(expected)


def plain_rows_arrive_once_and_in_order(clients: Clients, broker: LiveBroker) -> None:
    _there_and_back(clients, broker, idempotent=False)


def idempotent_rows_arrive_once_and_in_order(clients: Clients, broker: LiveBroker) -> None:
    _there_and_back(clients, broker, idempotent=True)


def _there_and_back(clients: Clients, broker: LiveBroker, *, idempotent: bool) -> None:
    topic, sent = fresh_topic(broker, 2), values("r", 2000)
    producer = clients.producer(idempotent=idempotent)
    send_all(producer, topic, 2, sent)
    producer.close()
    consumer = clients.consumer(topic, f"{topic}-g")
    rows = read([consumer], len(sent))
    consumer.close()
    assert_rows(rows, sent)
    for partition in (0, 1):
        assert [row.value for row in rows if row.partition == partition] == sent[partition::2]


def only_committed_transactions_are_read(clients: Clients, broker: LiveBroker) -> None:
    topic = fresh_topic(broker, 2)
    producer = clients.producer(transactional_id=f"{topic}-tx")
    kept: list[bytes] = []
    aborted: list[bytes] = []
    for i in range(6):
        rows = values(f"t{i}-", 40)
        producer.begin()
        send_all(producer, topic, 2, rows)
        if i % 3 == 1:
            producer.abort()
            aborted += rows
        else:
            producer.commit()
            kept += rows
    producer.close()
    for read_committed, expected in ((True, kept), (False, kept + aborted)):
        consumer = clients.consumer(topic, f"{topic}-{read_committed}", read_committed=read_committed)
        rows_read = read([consumer], len(expected))
        consumer.close()
        assert_rows(rows_read, expected)


def an_open_transaction_is_not_read(clients: Clients, broker: LiveBroker) -> None:
    topic = fresh_topic(broker, 1)
    producer = clients.producer(transactional_id=f"{topic}-tx")
    producer.begin()
    send_all(producer, topic, 1, values("open", 10))
    consumer = clients.consumer(topic, f"{topic}-g", read_committed=True)
    until([consumer], lambda: consumer.assignment() == {0}, "no assignment")
    assert [row for _ in range(3) for row in consumer.poll()] == []
    producer.commit()
    assert_rows(read([consumer], 10), values("open", 10))
    consumer.close()
    producer.close()


def a_newer_producer_fences_the_older(clients: Clients, broker: LiveBroker) -> None:
    topic = fresh_topic(broker, 1)
    older = clients.producer(transactional_id=f"{topic}-tx")
    older.begin()
    send_all(older, topic, 1, [b"lost"])
    newer = clients.producer(transactional_id=f"{topic}-tx")
    newer.begin()
    send_all(newer, topic, 1, [b"kept"])
    newer.commit()
    try:
        older.commit()
    except clients.fenced:
        pass
    else:
        raise AssertionError("the older producer could commit")
    consumer = clients.consumer(topic, f"{topic}-g", read_committed=True)
    assert_rows(read([consumer], 1), [b"kept"])
    consumer.close()
    newer.close()


def a_group_of_two_shares_and_takes_over(clients: Clients, broker: LiveBroker) -> None:
    topic = fresh_topic(broker, 4)
    group = f"{topic}-g"
    everything = {0, 1, 2, 3}
    producer = clients.producer()
    first = clients.consumer(topic, group)
    until([first], lambda: first.assignment() == everything, "one member has not got all partitions")
    send_all(producer, topic, 4, values("alone", 40))
    assert_rows(read([first], 40), values("alone", 40))
    first.commit()

    second = clients.consumer(topic, group)

    def shared() -> bool:
        mine, theirs = first.assignment(), second.assignment()
        return bool(mine) and bool(theirs) and not mine & theirs and mine | theirs == everything

    again = until([first, second], shared, "two members do not share the partitions")
    assert again == [], "a rebalance brought rows back that were committed"
    send_all(producer, topic, 4, values("both", 40))
    assert_rows(read([first, second], 40), values("both", 40))
    first.commit()
    second.commit()

    second.close()
    until(
        [first], lambda: first.assignment() == everything, "the partitions of a member that left are nobody's"
    )
    send_all(producer, topic, 4, values("left", 40))
    assert_rows(read([first], 40), values("left", 40))
    first.commit()
    first.close()
    producer.close()

    later = clients.consumer(topic, group)
    assert until([later], lambda: later.assignment() == everything, "no assignment") == []
    assert later.poll() == [], "rows came back that were committed"
    later.close()


def offsets_commit_with_the_rows(clients: Clients, broker: LiveBroker) -> None:
    """Consume, transform, produce: the offsets are part of the transaction, so an abort takes them back."""
    source, target = fresh_topic(broker, 2), fresh_topic(broker, 1)
    group, sent = f"{source}-g", values("in", 30)
    feeder = clients.producer()
    send_all(feeder, source, 2, sent)
    feeder.close()

    producer = clients.producer(transactional_id=f"{source}-tx")
    for commits in (False, True):
        consumer = clients.consumer(source, group, read_committed=True)
        rows = read([consumer], len(sent))
        assert_rows(rows, sent)
        producer.begin()
        send_all(producer, target, 1, [b"out-" + row.value for row in rows])
        producer.send_offsets(consumer)
        if commits:
            producer.commit()
        else:
            producer.abort()
        consumer.close()
    producer.close()

    again = clients.consumer(source, group, read_committed=True)
    assert until([again], lambda: again.assignment() == {0, 1}, "no assignment") == []
    assert again.poll() == [], "offsets that a transaction committed are not there"
    again.close()
    landed = clients.consumer(target, f"{target}-g", read_committed=True)
    assert_rows(read([landed], len(sent)), [b"out-" + value for value in sent])
    landed.close()


def a_static_member_comes_back_without_a_rebalance(clients: Clients, broker: LiveBroker) -> None:
    topic = fresh_topic(broker, 4)
    group = f"{topic}-g"
    one = clients.consumer(topic, group, instance="one")
    two = clients.consumer(topic, group, instance="two")

    def shared() -> bool:
        return len(one.assignment()) == len(two.assignment()) == 2

    until([one, two], shared, "two static members do not share the partitions")
    share, generation = two.assignment(), _generation(broker, group)
    two.close()
    two = clients.consumer(topic, group, instance="two")
    until([one, two], lambda: two.assignment() == share, "a static member has not got its share back")
    assert _generation(broker, group) == generation, "its restart was a rebalance"
    one.close()
    two.close()


def _generation(broker: LiveBroker, group: str) -> int:
    """The group's generation, from the last record about it in the broker's own topic."""
    generation = -1
    for path in sorted(broker.data_dir.glob("__consumer_offsets-*/*.log")):
        data = path.read_bytes()
        for at, header in headers(data):
            for record in [] if header.is_control else decode_simple(data, at):
                key = decode_group_key(record.key or b"")
                if isinstance(key, GroupMetadataKey) and key.group == group and record.value is not None:
                    generation = decode_value(GroupMetadataValue, record.value).generation
    return generation


CASES: list[Case] = [
    plain_rows_arrive_once_and_in_order,
    idempotent_rows_arrive_once_and_in_order,
    only_committed_transactions_are_read,
    an_open_transaction_is_not_read,
    a_newer_producer_fences_the_older,
    a_group_of_two_shares_and_takes_over,
    offsets_commit_with_the_rows,
    a_static_member_comes_back_without_a_rebalance,
]
