"""What a read_committed reader sees of transactions, over sockets."""

from tailrace.broker.wire.fetch import PartitionFetched
from tailrace.broker.wire.produce import ProduceRequest
from tests.support.batches import numbered, plain
from tests.support.live_broker import LiveBroker
from tests.support.wire_client import WireClient


class Transaction:
    """An open transaction on partition 0 of one topic."""

    def __init__(self, client: WireClient, name: str, topic: str) -> None:
        self.client, self.name, self.topic = client, name, topic
        made = client.call(
            22, 4, transactional_id=name, transaction_timeout=60_000, producer_id=-1, producer_epoch=-1
        )
        self.producer = made.producer_id, made.producer_epoch
        added = client.call(
            24,
            3,
            v3_and_below_transactional_id=name,
            v3_and_below_producer_id=made.producer_id,
            v3_and_below_producer_epoch=made.producer_epoch,
            v3_and_below_topics=[{"name": topic, "partitions": [0]}],
        )
        result = added.results_by_topic_v3_and_below[0].results_by_partition[0]
        assert result.partition_error_code == 0
        self.sequence = 0

    def produce(self, *rows: bytes) -> None:
        batch = numbered(*self.producer, self.sequence, *rows, transactional=True)
        self.sequence += len(rows)
        self.client.send(0, 9, ProduceRequest(self.name, -1, 5000, [(self.topic, [(0, batch)])]))
        assert self.client.receive().topics[0][1][0].error == 0

    def end(self, *, commit: bool) -> None:
        producer_id, epoch = self.producer
        answer = self.client.call(
            26, 3, transactional_id=self.name, producer_id=producer_id, producer_epoch=epoch, committed=commit
        )
        assert answer.error_code == 0


def committed(client: WireClient, topic: str, offset: int, end: int) -> PartitionFetched:
    """The first answer whose LSO has reached `end`: markers are written after EndTxn is answered."""
    while (
        fetched := client.fetch(topic, offset, isolation_level=1, max_wait_ms=100)
    ).last_stable_offset < end:
        pass
    return fetched


def test_nothing_is_seen_from_the_first_open_transaction_on(client: WireClient, topic: str) -> None:
    client.produce(topic, plain(b"before"), acks=-1)
    transaction = Transaction(client, f"{topic}-tx", topic)
    transaction.produce(b"inside")
    client.produce(topic, plain(b"after"), acks=-1)
    fetched = client.fetch(topic, 1, isolation_level=1, max_wait_ms=0)
    assert (bytes(fetched.records), fetched.last_stable_offset, fetched.high_watermark) == (b"", 1, 3)
    latest = {"name": topic, "partitions": [{"timestamp": -1}]}
    assert client.call(2, 7, isolation_level=1, topics=[latest]).topics[0].partitions[0].offset == 1
    assert client.call(2, 7, isolation_level=0, topics=[latest]).topics[0].partitions[0].offset == 3
    transaction.end(commit=True)
    assert committed(client, topic, 0, 4).aborted == []


def test_a_waiting_reader_is_woken_by_the_commit(broker: LiveBroker, client: WireClient, topic: str) -> None:
    with broker.client() as other:
        transaction = Transaction(other, f"{topic}-tx", topic)
        transaction.produce(b"inside")
        client.send_fetch(topic, 0, isolation_level=1, max_wait_ms=15_000)
        transaction.end(commit=True)
        fetched = client.receive().topics[0].partitions[0]
    assert fetched.last_stable_offset >= 1, "the marker itself may not be fsynced yet; the commit is"
    assert len(fetched.records) > 0


def test_aborted_transactions_are_listed_where_their_rows_are_and_nowhere_else(
    client: WireClient, topic: str
) -> None:
    gone = Transaction(client, f"{topic}-gone", topic)
    kept = Transaction(client, f"{topic}-kept", topic)
    gone.produce(b"a", b"b")
    kept.produce(b"c")
    gone.end(commit=False)
    kept.end(commit=True)
    fetched = committed(client, topic, 0, 5)
    assert [(a.producer_id, a.first_offset) for a in fetched.aborted or ()] == [(gone.producer[0], 0)]
    again = Transaction(client, f"{topic}-gone", topic)
    again.produce(b"z" * 2000)
    again.end(commit=False)
    committed(client, topic, 0, 7)
    first_only = client.fetch(topic, 0, isolation_level=1, partition_bytes=10)
    assert [a.first_offset for a in first_only.aborted or ()] == [0]
    last = client.fetch(topic, 5, isolation_level=1)
    assert [a.first_offset for a in last.aborted or ()] == [5]
