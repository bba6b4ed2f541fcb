"""Fetch over a socket: what comes, when it comes, and what a reader may not see."""

import threading
import time
import uuid

import pytest

from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.fetch import FetchPartition, FetchRequest, FetchTopic
from tailrace.broker.wire.messages import request
from tailrace.broker.wire.reference import decode_simple
from tests.support.batches import plain
from tests.support.live_broker import LiveBroker
from tests.support.wire_client import WireClient


def values(records: object) -> list[bytes | None]:
    assert isinstance(records, memoryview)
    out, at = [], 0
    while at < len(records):
        size = 12 + int.from_bytes(records[at + 8 : at + 12], "big")
        out += [record.value for record in decode_simple(records[at : at + size])]
        at += size
    return out


def id_of(client: WireClient, topic: str) -> uuid.UUID:
    answer = client.call(3, 12, topics=[{"name": topic}])
    topic_id: uuid.UUID = answer.topics[0].topic_id
    return topic_id


@pytest.mark.parametrize("version", range(4, 18))
def test_rows_come_back_in_every_version(client: WireClient, topic: str, version: int) -> None:
    client.produce(topic, plain(b"a", b"b"), acks=-1)
    client.produce(topic, plain(b"c"), acks=-1)
    fetched = client.fetch(topic, 0, version=version, topic_id=id_of(client, topic))
    assert values(fetched.records) == [b"a", b"b", b"c"]
    assert (fetched.high_watermark, fetched.last_stable_offset, fetched.error) == (3, 3, 0)
    assert fetched.log_start == (0 if version >= 5 else -1)


def test_an_offset_in_the_middle_of_a_batch_brings_the_whole_batch(client: WireClient, topic: str) -> None:
    client.produce(topic, plain(b"a", b"b", b"c"))
    client.produce(topic, plain(b"d"))
    assert values(client.fetch(topic, 2).records) == [b"a", b"b", b"c", b"d"]
    assert values(client.fetch(topic, 3).records) == [b"d"]


def test_the_first_batch_comes_whatever_the_limits_and_the_second_does_not(
    client: WireClient, topic: str
) -> None:
    client.produce(topic, plain(b"x" * 5000))
    client.produce(topic, plain(b"y"))
    client.produce(topic, plain(b"z"), partition=1)
    assert values(client.fetch(topic, 0, partition_bytes=10).records) == [b"x" * 5000]
    assert values(client.fetch(topic, 0, max_bytes=10).records) == [b"x" * 5000]
    both = FetchTopic(topic, None, [FetchPartition(0, 0), FetchPartition(1, 0)])
    client.send(1, 11, FetchRequest([both], max_bytes=10))
    first, second = client.receive().topics[0].partitions
    assert values(first.records) == [b"x" * 5000]
    assert bytes(second.records) == b""


def test_a_fetch_waits_for_rows_and_is_answered_when_they_come(
    broker: LiveBroker, client: WireClient, topic: str
) -> None:
    client.send_fetch(topic, 0, max_wait_ms=15_000)
    with broker.client() as producer:
        producer.produce(topic, plain(b"late"))
    started = time.monotonic()
    assert values(client.receive().topics[0].partitions[0].records) == [b"late"]
    assert time.monotonic() - started < 10


def test_a_fetch_that_waits_in_vain_is_answered_with_nothing(client: WireClient, topic: str) -> None:
    fetched = client.fetch(topic, 0, max_wait_ms=50)
    assert (fetched.error, bytes(fetched.records)) == (0, b"")


def test_min_bytes_are_waited_for(broker: LiveBroker, client: WireClient, topic: str) -> None:
    client.send_fetch(topic, 0, max_wait_ms=15_000, min_bytes=400)
    with broker.client() as producer:
        for _ in range(6):
            producer.produce(topic, plain(b"x" * 20))
    assert len(client.receive().topics[0].partitions[0].records) >= 400


def test_what_the_limits_cut_short_is_not_waited_for(
    broker: LiveBroker, client: WireClient, topic: str
) -> None:
    """confluent-kafka with fetch.min.bytes=1000000 got two answers a second: whole batches below the limit of
    1 MiB are seldom a million bytes.
    """
    with broker.client() as producer:
        for _ in range(3):
            producer.produce(topic, plain(b"x" * 3000))
    started = time.monotonic()
    fetched = client.fetch(topic, 0, max_wait_ms=15_000, min_bytes=6000, partition_bytes=6000)
    assert len(values(fetched.records)) == 1
    assert time.monotonic() - started < 10


def test_an_error_is_told_at_once_whatever_min_bytes_say(client: WireClient, topic: str) -> None:
    for offset, error in ((5, ErrorCode.offset_out_of_range), (-7, ErrorCode.offset_out_of_range)):
        assert client.fetch(topic, offset, max_wait_ms=15_000).error == error
    assert client.fetch("no-such", 0, max_wait_ms=15_000).error == ErrorCode.unknown_topic_or_partition
    assert (
        client.fetch(topic, 0, partition=9, max_wait_ms=15_000).error == ErrorCode.unknown_topic_or_partition
    )
    unknown = client.fetch("", 0, version=13, topic_id=uuid.uuid4(), max_wait_ms=15_000)
    assert unknown.error == ErrorCode.unknown_topic_id


def test_a_reader_with_another_leader_epoch_is_told(client: WireClient, topic: str) -> None:
    epoch = client.call(3, 12, topics=[{"name": topic}]).topics[0].partitions[0].leader_epoch
    assert client.fetch(topic, 0, leader_epoch=epoch, max_wait_ms=0).error == 0
    assert client.fetch(topic, 0, leader_epoch=epoch + 1).error == ErrorCode.unknown_leader_epoch


def test_sessions_are_refused_and_full_fetches_are_not(client: WireClient, topic: str) -> None:
    client.send_fetch(topic, 0, session_id=77, session_epoch=3)
    assert client.receive().error == ErrorCode.fetch_session_id_not_found
    client.send_fetch(topic, 0, session_id=0, session_epoch=0, max_wait_ms=0)
    answer = client.receive()
    assert (answer.error, answer.session_id) == (0, 0)


def test_read_committed_never_passes_what_is_fsynced(tmp_path) -> None:
    with (
        LiveBroker(tmp_path / "data", flush_interval=3600) as lazy,
        lazy.client() as client,
    ):
        client.create("t")
        client.produce("t", plain(b"a"), acks=1)
        assert values(client.fetch("t", 0, isolation_level=0).records) == [b"a"]
        fetched = client.fetch("t", 0, isolation_level=1, max_wait_ms=20)
        assert (bytes(fetched.records), fetched.last_stable_offset, fetched.high_watermark) == (b"", 0, 1)
        client.send_fetch("t", 0, isolation_level=1, max_wait_ms=15_000)
        with lazy.client() as other:
            other.produce("t", plain(b"b"), acks=-1)
        fetched = client.receive().topics[0].partitions[0]
        assert values(fetched.records) == [b"a", b"b"]
        assert fetched.last_stable_offset == 2


def test_a_partition_asked_for_twice_is_answered_once_and_at_once(client: WireClient, topic: str) -> None:
    twice = [FetchTopic(topic, None, [FetchPartition(0, 0)]), FetchTopic(topic, None, [FetchPartition(0, 0)])]
    client.send(1, 11, FetchRequest(twice, max_wait_ms=15_000))
    first, second = client.receive().topics
    assert first.partitions[0].error == 0
    assert second.partitions[0].error == ErrorCode.invalid_request


def test_a_topic_deleted_under_a_waiting_fetch_is_told(
    broker: LiveBroker, client: WireClient, topic: str
) -> None:
    client.produce(topic, plain(b"a"))
    client.send_fetch(topic, 1, max_wait_ms=15_000)
    with broker.client() as other:
        assert other.call(20, 5, topic_names=[topic]).responses[0].error_code == 0
    assert client.receive().topics[0].partitions[0].error == ErrorCode.unknown_topic_or_partition


def test_a_big_answer_is_followed_by_small_ones_in_order(client: WireClient, topic: str) -> None:
    row = plain(b"\xaa" * 900_000)
    for _ in range(12):
        client.produce(topic, row)
    client.send_fetch(topic, 0, partition_bytes=12 << 20, max_wait_ms=0)
    for _ in range(20):
        client.send(18, 0, request(18, 0))
    client.send_fetch(topic, 3, partition_bytes=4 << 20, max_wait_ms=0)
    client.send(18, 0, request(18, 0))
    big = client.receive().topics[0].partitions[0]
    assert len(big.records) >= 12 * 900_000
    for _ in range(20):
        assert client.receive().error_code == 0
    assert values(client.receive().topics[0].partitions[0].records)[0] == b"\xaa" * 900_000
    assert client.receive().error_code == 0


def test_later_answers_wait_for_a_fetch_that_waits(
    broker: LiveBroker, client: WireClient, topic: str
) -> None:
    client.send_fetch(topic, 0, max_wait_ms=15_000)
    client.send(18, 0, request(18, 0))
    with broker.client() as producer:
        producer.produce(topic, plain(b"now"))
    assert values(client.receive().topics[0].partitions[0].records) == [b"now"]
    assert client.receive().error_code == 0


def test_many_readers_and_a_writer_all_see_every_row_once(broker: LiveBroker, topic: str) -> None:
    rows = [b"%06d" % n for n in range(600)]
    seen: dict[int, list[bytes | None]] = {}

    def read(number: int) -> None:
        got, offset = [], 0
        with broker.client() as reader:
            while len(got) < len(rows):
                fetched = reader.fetch(topic, offset, isolation_level=number % 2, max_wait_ms=5000)
                got += values(fetched.records)
                offset = len(got)
        seen[number] = got

    threads = [threading.Thread(target=read, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    with broker.client() as writer:
        for at in range(0, len(rows), 3):
            writer.produce(topic, plain(*rows[at : at + 3]), acks=1)
    for thread in threads:
        thread.join(30)
    assert seen == dict.fromkeys(range(4), rows)
