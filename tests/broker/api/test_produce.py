"""Produce over a socket: what is taken, what is refused and with which error, and what a refusal leaves
behind.
"""

import pytest

from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.produce import ProduceRequest
from tests.support.batches import marker, numbered, plain
from tests.support.live_broker import LiveBroker
from tests.support.wire_client import WireClient


def end_of(client: WireClient, topic: str) -> int:
    answer = client.call(2, 7, topics=[{"name": topic, "partitions": [{"timestamp": -1}]}])
    end: int = answer.topics[0].partitions[0].offset
    return end


@pytest.mark.parametrize("version", range(3, 12))
@pytest.mark.parametrize("acks", [1, -1])
def test_batches_get_their_offsets_in_every_version(
    client: WireClient, topic: str, version: int, acks: int
) -> None:
    assert client.produce(topic, plain(b"a", b"b"), version=version, acks=acks).base_offset == 0
    assert client.produce(topic, plain(b"c"), version=version, acks=acks).base_offset == 2
    assert end_of(client, topic) == 3


def test_acks_0_has_no_answer_and_the_next_request_has_its_own(client: WireClient, topic: str) -> None:
    frame = ProduceRequest(None, 0, 1000, [(topic, [(0, plain(b"a"))])])
    client.send(0, 9, frame)
    client._expected.clear()
    assert end_of(client, topic) == 1


def test_an_error_with_acks_0_closes_the_connection_after_the_answers_before_it(
    client: WireClient, topic: str
) -> None:
    client.send_fetch(topic, 0, max_wait_ms=0)
    client.send(0, 9, ProduceRequest(None, 0, 1000, [("no-such-topic", [(0, plain(b"a"))])]))
    assert client.receive().topics[0].partitions[0].error == 0
    assert client.closed_by_peer()


def broken_crc() -> bytearray:
    batch = plain(b"abc")
    batch[-1] ^= 1
    return batch


def old_magic() -> bytearray:
    batch = plain(b"abc")
    batch[16] = 1
    return batch


def wrong_count() -> bytearray:
    batch = plain(b"abc")
    batch[57:61] = (1 << 30).to_bytes(4, "big")
    return batch


@pytest.mark.parametrize(
    ("batch", "error"),
    [
        (broken_crc(), ErrorCode.corrupt_message),
        (wrong_count(), ErrorCode.corrupt_message),
        (old_magic(), ErrorCode.unsupported_for_message_format),
        (plain(b"a") + plain(b"b"), ErrorCode.invalid_record),
        (plain(b"abc")[:-1], ErrorCode.corrupt_message),
        (bytearray(), ErrorCode.invalid_record),
        (marker(5, 0, commit=True), ErrorCode.invalid_record),
        (numbered(900, 0, 7, b"a"), ErrorCode.none),
        (plain(b"x" * 1_100_000), ErrorCode.message_too_large),
    ],
    ids=["crc", "count", "magic", "two", "short", "empty", "marker", "first-sequence", "large"],
)
def test_what_is_refused_leaves_nothing_and_spoils_nothing_else(
    client: WireClient, topic: str, batch: bytearray, error: ErrorCode
) -> None:
    body = ProduceRequest(
        None, -1, 1000, [(topic, [(0, batch), (1, plain(b"good"))]), ("gone", [(0, plain(b"x"))])]
    )
    client.send(0, 9, body)
    answer = client.receive()
    spoiled, good = answer.topics[0][1]
    assert spoiled.error == error
    assert (good.error, good.base_offset) == (0, 0)
    assert answer.topics[1][1][0].error == ErrorCode.unknown_topic_or_partition
    assert end_of(client, topic) == (0 if error else 1)
    if error:
        assert spoiled.error_message
        assert spoiled.base_offset == -1


def test_a_batch_that_claims_another_length_than_it_has_is_refused(client: WireClient, topic: str) -> None:
    for length in (0, 1, 2**31 - 1, -1):
        batch = plain(b"abc")
        batch[8:12] = length.to_bytes(4, "big", signed=True)
        assert client.produce(topic, batch).error in (ErrorCode.corrupt_message, ErrorCode.invalid_record)


def test_a_repeat_answers_with_the_original_offset_and_out_of_order_is_told(
    client: WireClient, topic: str
) -> None:
    assert client.produce(topic, numbered(7001, 0, 0, b"a", b"b"), acks=-1).base_offset == 0
    assert client.produce(topic, numbered(7001, 0, 2, b"c"), acks=-1).base_offset == 2
    again = client.produce(topic, numbered(7001, 0, 0, b"a", b"b"), acks=-1)
    assert (again.error, again.base_offset) == (0, 0)
    assert client.produce(topic, numbered(7001, 0, 9, b"z")).error == ErrorCode.out_of_order_sequence_number
    assert client.produce(topic, numbered(7001, 1, 0, b"d")).error == 0
    assert client.produce(topic, numbered(7001, 0, 3, b"e")).error == ErrorCode.invalid_producer_epoch
    assert end_of(client, topic) == 4


def test_the_coordinators_own_topics_are_not_written_by_clients(client: WireClient) -> None:
    for topic in ("__consumer_offsets", "__transaction_state"):
        assert client.produce(topic, plain(b"a")).error == ErrorCode.invalid_topic_exception


def test_acks_that_do_not_exist_are_refused(client: WireClient, topic: str) -> None:
    assert client.produce(topic, plain(b"a"), acks=2).error == ErrorCode.invalid_required_acks
    assert end_of(client, topic) == 0


def test_a_transactional_batch_outside_a_transaction_is_refused(client: WireClient, topic: str) -> None:
    batch = numbered(4242, 0, 0, b"a", transactional=True)
    client.send(0, 9, ProduceRequest("tx", -1, 1000, [(topic, [(0, batch)])]))
    assert client.receive().topics[0][1][0].error != 0
    assert end_of(client, topic) == 0


def test_produce_is_refused_as_retriable_when_the_disk_has_less_than_min_free(tmp_path) -> None:
    with LiveBroker(tmp_path / "data", min_free=1 << 60) as full, full.client() as client:
        client.create("t")
        refused = client.produce("t", plain(b"a"))
        assert refused.error == ErrorCode.kafka_storage_error
        assert "min_free" in (refused.error_message or "")
        assert end_of(client, "t") == 0


def test_a_full_disk_under_the_log_is_answered_as_retriable_and_passes(tmp_path) -> None:
    with (
        LiveBroker(tmp_path / "data", failpoints="log.append_after_write=enospc@4-6") as full,
        full.client() as client,
    ):
        client.create("t")
        answers = [client.produce("t", numbered(1, 0, n, b"%d" % n), acks=-1) for n in range(1)]
        sequence, tries = 1, 0
        while sequence < 5 and tries < 30:
            tries += 1
            produced = client.produce("t", numbered(1, 0, sequence, b"%d" % sequence), acks=-1)
            if produced.error == 0:
                sequence += 1
                answers.append(produced)
            else:
                assert produced.error == ErrorCode.kafka_storage_error
        assert [a.base_offset for a in answers] == [0, 1, 2, 3, 4]
        assert tries > 4
