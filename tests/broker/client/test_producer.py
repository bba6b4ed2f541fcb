import threading

import numpy as np
import pytest

from tailrace.broker.client.errors import Refused, RowTooLarge, UnknownTopic
from tailrace.broker.client.producer import Producer
from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.client.versions import INIT_PRODUCER_ID, PRODUCE
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.produce import PartitionProduced, ProduceResponse
from tailrace.errors import Corrupt, Retry
from tests.support.rows import bodies_of, numbered, produced, rows_of
from tests.support.scripted_broker import Body, Cut, ScriptedCluster, Silence

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def refusing(code):
    """A reaction: this error for every partition of the request."""

    def react(request):
        return Body(
            ProduceResponse(
                [(name, [PartitionProduced(p, error=code) for p, _ in e]) for name, e in request.body.topics]
            )
        )

    return react


def sequences(scripted, partition=0):
    """(first sequence, count) of each batch that came for the partition."""
    headers = [produced(body).get(("t", partition)) for body in scripted.requests(PRODUCE)]
    return [(h.base_sequence, h.count) for h in headers if h is not None]


@pytest.fixture
def producer(cluster):
    producer = Producer(cluster, batch_bytes=1000)
    yield producer
    producer.close()


def test_small_rows_are_gathered_and_go_in_one_request_for_all_partitions(scripted, producer):
    for n in range(10):
        producer.send(T0, numbered(n, n + 1))
        producer.send(T1, numbered(n, n + 1))
    assert scripted.requests(PRODUCE) == []
    producer.flush()
    (request,) = scripted.requests(PRODUCE)
    assert {key: header.count for key, header in produced(request).items()} == {("t", 0): 10, ("t", 1): 10}
    assert request.acks == -1
    producer.flush()
    assert len(scripted.requests(PRODUCE)) == 1


def test_large_rows_are_cut_evenly_and_leave_at_once(scripted, producer):
    producer.send(T0, numbered(0, 8, size=100))
    producer.flush()
    producer.send(T0, numbered(8, 48, size=100))
    scripted.wait_for(PRODUCE, 6)
    producer.flush()
    assert sequences(scripted) == [(0, 8), (8, 8), (16, 8), (24, 8), (32, 8), (40, 8)]


def test_the_first_batch_of_a_partition_goes_alone(scripted, producer):
    """A leader that refuses it and takes the second has no sequence yet that it could be out of."""
    scripted.next_time(PRODUCE, refusing(ErrorCode.not_leader_or_follower))
    producer.send(T0, numbered(0, 24, size=100))
    producer.flush()
    assert sequences(scripted) == [(0, 8), (0, 8), (8, 8), (16, 8)]


def test_a_lost_answer_is_asked_for_again_with_the_same_sequences(scripted, producer):
    scripted.next_time(PRODUCE, lambda _: Cut(0))
    producer.send(T0, numbered(0, 3))
    producer.flush()
    producer.send(T0, numbered(3, 5))
    producer.flush()
    assert sequences(scripted) == [(0, 3), (0, 3), (3, 2)]


def test_a_duplicate_is_a_success(scripted, producer):
    scripted.next_time(PRODUCE, lambda _: Cut(5), refusing(ErrorCode.duplicate_sequence_number))
    producer.send(T0, numbered(0, 3))
    producer.flush()
    assert sequences(scripted) == [(0, 3), (0, 3)]


def test_all_that_follows_a_failed_batch_goes_again_in_order(scripted, producer):
    """The broker refuses the second of five; to the later ones it then says that they are out of order."""
    out_of_order = refusing(ErrorCode.out_of_order_sequence_number)
    fine = lambda request: Body(scripted.plausible(request))  # noqa: E731
    scripted.next_time(
        PRODUCE, fine, refusing(ErrorCode.not_enough_replicas), out_of_order, out_of_order, out_of_order
    )
    producer.send(T0, numbered(0, 40, size=100))
    producer.flush()
    first, again = sequences(scripted)[:5], sequences(scripted)[5:]
    assert first == [(0, 8), (8, 8), (16, 8), (24, 8), (32, 8)]
    assert again == [(8, 8), (16, 8), (24, 8), (32, 8)]


def test_no_more_than_five_requests_are_unanswered(scripted, producer):
    go_on = threading.Event()
    scripted.next_time(PRODUCE, lambda request: (go_on.wait(10), Body(scripted.plausible(request)))[1])

    def send():
        for n in range(7):
            producer.send(T0, numbered(n * 8, n * 8 + 8, size=100))
        producer.flush()

    sending = threading.Thread(target=send)
    sending.start()
    # One connection's requests are read one after the other here: the first holds up those behind it.
    scripted.wait_for(PRODUCE, 1)
    assert sending.is_alive()
    go_on.set()
    sending.join(10)
    assert sequences(scripted) == [(n * 8, 8) for n in range(7)]


def test_a_partition_whose_leader_moved_is_followed(cluster):
    scripted = ScriptedCluster({"t": 1}, nodes=2)
    try:
        producer = Producer(type(cluster)(scripted.bootstrap, patience=2.0))
        producer.send(T0, numbered(0, 1))
        producer.flush()

        def moved(request):
            scripted.leaders["t", 0] = (1, 2)
            return refusing(ErrorCode.not_leader_or_follower)(request)

        scripted.next_time(PRODUCE, moved)
        producer.send(T0, numbered(1, 3))
        producer.flush()
        nodes = [seen.node for seen in scripted.seen if seen.request.api_key == PRODUCE]
        assert nodes == [0, 0, 1]
        assert sequences(scripted) == [(0, 1), (1, 2), (1, 2)]
    finally:
        scripted.close()


def test_sequences_that_the_broker_lost_get_a_new_producer_id(scripted, producer):
    producer.send(T0, numbered(0, 3))
    producer.flush()
    scripted.next_time(PRODUCE, refusing(ErrorCode.unknown_producer_id))
    producer.send(T0, numbered(3, 5))
    producer.flush()
    assert sequences(scripted) == [(0, 3), (3, 2), (0, 2)]
    assert len(scripted.requests(INIT_PRODUCER_ID)) == 2
    headers = [produced(body)["t", 0] for body in scripted.requests(PRODUCE)]
    assert [header.producer_epoch for header in headers] == [0, 0, 1]


def test_sequences_wrap_around(cluster, scripted, producer):
    producer.send(T0, numbered(0, 1))
    producer.flush()
    producer._dispatch.outbox(T0)._next_sequence = 2**31 - 2
    producer.send(T0, numbered(1, 6))
    producer.send(T0, numbered(6, 7))
    producer.flush()
    producer.send(T0, numbered(7, 9))
    producer.flush()
    assert sequences(scripted)[1:] == [(2**31 - 2, 6), (4, 2)]


def test_a_batch_that_the_broker_finds_too_large_is_split(scripted, producer):
    scripted.next_time(PRODUCE, refusing(ErrorCode.message_too_large), refusing(ErrorCode.message_too_large))
    producer.send(T0, numbered(0, 8, size=100))
    producer.flush()
    assert sequences(scripted) == [(0, 8), (0, 4), (0, 2), (2, 2), (4, 2), (6, 2)]


def test_one_row_that_is_too_large_is_refused_and_nothing_of_the_send_is_taken(scripted, cluster):
    scripted.configs["max.message.bytes"] = "5000"
    producer = Producer(cluster)
    with pytest.raises(RowTooLarge, match=r"t-0: row 1 of about 60\d\d bytes") as caught:
        producer.send(T0, rows_of(b"fine", b"x" * 6000))
    assert (caught.value.row, caught.value.limit) == (1, 5000)
    producer.flush()
    producer.send(T0, rows_of(b"fine", b"x" * 4500, b"y" * 4500))
    producer.flush()
    assert sum(count for _, count in sequences(scripted)) == 3


def test_a_large_row_that_compresses_is_taken(scripted, cluster):
    scripted.configs["max.message.bytes"] = "5000"
    producer = Producer(cluster, codec="zstd")
    producer.send(T0, rows_of(b"x" * 60_000))
    producer.flush()
    assert sequences(scripted) == [(0, 1)]


def test_rows_arrive_as_they_were_with_a_lost_connection_in_between(scripted, producer):
    scripted.next_time(PRODUCE, lambda _: Cut(0))
    for n in range(0, 100, 10):
        producer.send(T0, numbered(n, n + 10, size=60))
    producer.flush()
    arrived, taken = [], set()
    for body in scripted.requests(PRODUCE)[1:]:
        header = produced(body)["t", 0]
        if header.base_sequence not in taken:
            taken.add(header.base_sequence)
            arrived += bodies_of(body.topics[0][1][0][1])
    assert arrived == [b"%d" % n for n in range(100)]


def test_acks_0_waits_for_nothing(scripted, cluster):
    producer = Producer(cluster, acks=0)
    producer.send(T0, numbered(0, 3))
    producer.flush()
    (request,) = scripted.wait_for(PRODUCE, 1)
    assert request.acks == 0
    assert produced(request)["t", 0].producer_id == -1


def test_acks_1_sends_again_without_sequences(scripted, cluster):
    scripted.next_time(PRODUCE, lambda _: Cut(0))
    producer = Producer(cluster, acks=1)
    producer.send(T0, numbered(0, 3))
    producer.flush()
    assert sequences(scripted) == [(-1, 3), (-1, 3)]
    assert scripted.requests(INIT_PRODUCER_ID) == []


def test_a_topic_that_is_not_there_takes_nothing(scripted, producer):
    with pytest.raises(UnknownTopic):
        producer.send(TopicPartition("u", 0), numbered(0, 1))
    producer.flush()
    assert scripted.requests(PRODUCE) == []


def test_after_retry_flush_goes_on_where_it_was(scripted, cluster):
    scripted.next_time(PRODUCE, *[refusing(ErrorCode.not_enough_replicas)] * 60)
    impatient = type(cluster)(scripted.bootstrap, patience=0.1)
    producer = Producer(impatient)
    producer.send(T0, numbered(0, 3))
    with pytest.raises(Retry, match="NOT_ENOUGH_REPLICAS"):
        producer.flush()
    scripted._script[PRODUCE].clear()
    producer.flush()
    assert set(sequences(scripted)) == {(0, 3)}


def test_a_broker_that_is_gone_keeps_what_was_sent(scripted, cluster):
    impatient = type(cluster)(scripted.bootstrap, patience=0.2)
    producer = Producer(impatient)
    producer.send(T0, numbered(0, 3))
    producer.flush()
    scripted.brokers[0].stop()
    producer.send(T0, numbered(3, 5))
    with pytest.raises(Retry):
        producer.flush()
    scripted.brokers[0].start()
    producer.flush()
    assert sequences(scripted)[-1] == (3, 2)


def test_a_broker_that_does_not_answer_in_time_is_asked_again(scripted):
    from tailrace.broker.client.cluster import Cluster

    producer = Producer(Cluster(scripted.bootstrap, timeout=0.3, patience=2.0))
    scripted.next_time(PRODUCE, lambda _: Silence())
    producer.send(T0, numbered(0, 3))
    producer.flush()
    assert sequences(scripted) == [(0, 3), (0, 3)]


def test_an_error_that_does_not_pass_stays(scripted, producer):
    scripted.next_time(PRODUCE, refusing(ErrorCode.topic_authorization_failed))
    producer.send(T0, numbered(0, 1))
    with pytest.raises(Refused, match="writing to t-0: TOPIC_AUTHORIZATION_FAILED"):
        producer.flush()
    with pytest.raises(Refused, match="TOPIC_AUTHORIZATION_FAILED"):
        producer.send(T0, numbered(0, 1))
    with pytest.raises(Refused, match="TOPIC_AUTHORIZATION_FAILED"):
        producer.flush()


def test_an_answer_that_leaves_a_partition_out_is_corrupt(scripted, producer):
    scripted.next_time(PRODUCE, lambda _: Body(ProduceResponse([("t", [PartitionProduced(1)])])))
    producer.send(T0, numbered(0, 1))
    with pytest.raises(Corrupt, match="out of a produce answer"):
        producer.flush()


def test_no_rows_are_nothing(scripted, producer):
    producer.send(T0, numbered(0, 0))
    producer.flush()
    assert scripted.requests(PRODUCE) == []


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_each_codec_carries_the_rows(scripted, cluster, codec):
    producer = Producer(cluster, codec=codec)
    producer.send(T0, numbered(0, 500))
    producer.flush()
    ((_, [(_, records)]),) = scripted.requests(PRODUCE)[0].topics
    assert bodies_of(records) == [b"%d" % n for n in np.arange(500)]
    assert produced(scripted.requests(PRODUCE)[0])["t", 0].codec == codec
