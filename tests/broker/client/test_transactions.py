from dataclasses import dataclass

import pytest

from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.errors import OutcomeUnknown, Refused
from tailrace.broker.client.producer import Producer
from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.client.versions import (
    ADD_OFFSETS_TO_TXN,
    ADD_PARTITIONS_TO_TXN,
    END_TXN,
    FIND_COORDINATOR,
    INIT_PRODUCER_ID,
    PRODUCE,
    TXN_OFFSET_COMMIT,
)
from tailrace.broker.wire import messages
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.produce import PartitionProduced, ProduceResponse
from tailrace.errors import Fenced, Retry, Rewind
from tests.support.rows import numbered, produced, rows_of
from tests.support.scripted_broker import Body, Cut, ScriptedCluster

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


@dataclass(frozen=True)
class Place:
    group: str = "g"
    generation: int = 3
    member_id: str = "m"
    instance_id: str | None = "i"


def code(number):
    """A reaction: a body with this error code and nothing else in it."""
    return lambda request: Body(messages.response(request.api_key, request.api_version, error_code=number))


def produce_code(number):
    return lambda request: Body(
        ProduceResponse(
            [(name, [PartitionProduced(p, error=number) for p, _ in e]) for name, e in request.body.topics]
        )
    )


@pytest.fixture
def producer(cluster):
    producer = Producer(cluster, transactional_id="tx")
    producer.init_transactions()
    yield producer
    producer.close()


def test_a_transaction_names_its_partitions_before_their_rows(scripted, producer):
    producer.begin()
    producer.send(T0, numbered(0, 3))
    producer.send(T1, numbered(0, 3))
    producer.flush()
    producer.send(T0, numbered(3, 4))
    producer.commit()
    order = [seen.request.api_key for seen in scripted.seen if seen.request.api_key in (0, 24, 26)]
    assert order == [ADD_PARTITIONS_TO_TXN, PRODUCE, PRODUCE, END_TXN]
    (added,) = scripted.requests(ADD_PARTITIONS_TO_TXN)
    assert [(t.name, t.partitions) for t in added.v3_and_below_topics] == [("t", (0, 1))]
    header = produced(scripted.requests(PRODUCE)[0])["t", 0]
    assert header.is_transactional
    assert (header.producer_id, header.producer_epoch) == (7, 0)
    assert scripted.requests(PRODUCE)[0].transactional_id == "tx"
    assert scripted.requests(END_TXN)[0].committed
    assert not producer.in_transaction


def test_what_is_expected_is_added_with_the_first_rows_and_never_alone(scripted, producer):
    producer.begin([T1])
    producer.commit()
    assert scripted.requests(ADD_PARTITIONS_TO_TXN) == []
    producer.begin([T1])
    producer.send(T0, numbered(0, 3))
    producer.flush()
    producer.send(T1, numbered(0, 3))
    producer.commit()
    producer.begin()
    producer.send(T0, numbered(3, 4))
    producer.commit()
    added = scripted.requests(ADD_PARTITIONS_TO_TXN)
    assert [one.v3_and_below_topics[0].partitions for one in added] == [(0, 1), (0,)]


def test_sequences_go_on_from_transaction_to_transaction(scripted, producer):
    for _ in range(2):
        producer.begin()
        producer.send(T0, numbered(0, 3))
        producer.commit()
    headers = [produced(body)["t", 0] for body in scripted.requests(PRODUCE)]
    assert [header.base_sequence for header in headers] == [0, 3]
    assert len(scripted.requests(INIT_PRODUCER_ID)) == 1


def test_an_empty_transaction_asks_nothing(scripted, producer):
    before = len(scripted.seen)
    producer.begin()
    producer.commit()
    producer.begin()
    producer.abort()
    assert len(scripted.seen) == before


def test_a_lost_answer_to_end_txn_is_asked_for_until_it_is_definite(scripted, producer):
    scripted.next_time(END_TXN, lambda _: Cut(0), lambda _: Cut(3), code(ErrorCode.concurrent_transactions))
    producer.begin()
    producer.send(T0, numbered(0, 3))
    producer.commit()
    assert [body.committed for body in scripted.requests(END_TXN)] == [True] * 4
    assert {body.producer_epoch for body in scripted.requests(END_TXN)} == {0}


def test_after_a_lost_end_txn_a_new_epoch_fences_the_one_that_may_still_come(scripted, producer):
    scripted.next_time(END_TXN, lambda _: Cut(0))
    producer.begin()
    producer.send(T0, numbered(0, 3))
    producer.commit()
    assert len(scripted.requests(INIT_PRODUCER_ID)) == 1
    producer.begin()
    producer.send(T0, numbered(3, 4))
    producer.commit()
    header = produced(scripted.requests(PRODUCE)[-1])["t", 0]
    assert (header.producer_epoch, header.base_sequence) == (1, 0)
    producer.begin()
    assert len(scripted.requests(INIT_PRODUCER_ID)) == 2


def test_an_outcome_that_stays_unknown_is_the_callers_to_repeat(scripted, cluster):
    producer = Producer(Cluster(scripted.bootstrap, patience=0.2), transactional_id="tx")
    producer.init_transactions()
    producer.begin()
    producer.send(T0, numbered(0, 3))
    producer.flush()
    scripted.brokers[0].stop()
    with pytest.raises(OutcomeUnknown):
        producer.commit()
    with pytest.raises(RuntimeError, match="not ours to choose"):
        producer.abort()
    with pytest.raises(RuntimeError, match="between begin"):
        producer.send(T0, numbered(3, 4))
    scripted.brokers[0].start()
    producer.commit()
    assert not producer.in_transaction
    assert [body.committed for body in scripted.requests(END_TXN)] == [True]


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (ErrorCode.producer_fenced, Fenced),
        (ErrorCode.invalid_producer_epoch, Fenced),
        (ErrorCode.invalid_txn_state, Rewind),
        (ErrorCode.transaction_abortable, Rewind),
        (ErrorCode.transactional_id_authorization_failed, Refused),
    ],
)
def test_what_end_txn_refuses_needs_a_new_start(scripted, producer, number, error):
    scripted.next_time(END_TXN, code(number))
    producer.begin()
    producer.send(T0, numbered(0, 3))
    with pytest.raises(error):
        producer.commit()
    with pytest.raises(error):
        producer.begin()
    producer.init_transactions()
    producer.begin()
    producer.send(T0, numbered(0, 3))
    producer.commit()
    assert produced(scripted.requests(PRODUCE)[-1])["t", 0].base_sequence == 0


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (ErrorCode.producer_fenced, Fenced),
        (ErrorCode.invalid_producer_epoch, Fenced),
        (ErrorCode.out_of_order_sequence_number, Rewind),
        (ErrorCode.invalid_txn_state, Rewind),
    ],
)
def test_what_produce_refuses_in_a_transaction_needs_a_new_start(scripted, producer, number, error):
    scripted.next_time(PRODUCE, produce_code(number))
    producer.begin()
    producer.send(T0, numbered(0, 3))
    with pytest.raises(error):
        producer.commit()
    assert scripted.requests(END_TXN) == []
    producer.abort()
    assert len(scripted.requests(INIT_PRODUCER_ID)) == 2
    producer.begin()


def test_markers_that_are_still_being_written_are_waited_for(scripted, producer):
    def concurrent(request):
        results = [
            {
                "name": "t",
                "results_by_partition": [
                    {"partition_index": 0, "partition_error_code": ErrorCode.concurrent_transactions},
                    {"partition_index": 1, "partition_error_code": ErrorCode.operation_not_attempted},
                ],
            }
        ]
        return scripted.answer(request, results_by_topic_v3_and_below=results)

    scripted.next_time(ADD_PARTITIONS_TO_TXN, concurrent, concurrent)
    producer.begin()
    producer.send(T0, numbered(0, 3))
    producer.send(T1, numbered(0, 3))
    producer.commit()
    assert len(scripted.requests(ADD_PARTITIONS_TO_TXN)) == 3
    assert len(scripted.requests(PRODUCE)) == 1


def test_initialising_waits_for_what_a_predecessor_left(scripted, cluster):
    scripted.next_time(
        INIT_PRODUCER_ID,
        code(ErrorCode.concurrent_transactions),
        code(ErrorCode.coordinator_load_in_progress),
        code(ErrorCode.not_coordinator),
    )
    producer = Producer(cluster, transactional_id="tx", transaction_timeout=12.5)
    producer.init_transactions()
    (last,) = scripted.requests(INIT_PRODUCER_ID)[-1:]
    assert last.transactional_id == "tx"
    assert last.transaction_timeout.total_seconds() == 12.5
    assert len(scripted.requests(FIND_COORDINATOR)) == 2


def test_nothing_goes_before_initialising_has_succeeded(scripted, cluster):
    producer = Producer(Cluster(scripted.bootstrap, patience=0.05), transactional_id="tx")
    with pytest.raises(RuntimeError):
        producer.begin()
    scripted.next_time(INIT_PRODUCER_ID, *[code(ErrorCode.concurrent_transactions)] * 50)
    with pytest.raises(Retry):
        producer.init_transactions()
    with pytest.raises(Rewind, match="not initialised"):
        producer.begin()
    scripted._script[INIT_PRODUCER_ID].clear()
    producer.init_transactions()
    producer.begin()


def test_a_coordinator_that_moved_is_followed(cluster):
    scripted = ScriptedCluster({"t": 1}, nodes=2)
    try:
        producer = Producer(Cluster(scripted.bootstrap, patience=2.0), transactional_id="tx")
        producer.init_transactions()
        producer.begin()
        producer.send(T0, numbered(0, 3))
        producer.flush()

        def moved(request):
            scripted.coordinator = 1
            return code(ErrorCode.not_coordinator)(request)

        scripted.next_time(END_TXN, moved)
        producer.commit()
        assert [seen.node for seen in scripted.seen if seen.request.api_key == END_TXN] == [0, 1]
    finally:
        scripted.close()


def test_offsets_carry_the_groups_generation(scripted, producer):
    producer.begin()
    producer.send_offsets(Place(), {T0: (17, "stamp"), T1: (4, "")})
    producer.commit()
    assert scripted.requests(ADD_OFFSETS_TO_TXN)[0].group_id == "g"
    (body,) = scripted.requests(TXN_OFFSET_COMMIT)
    assert (body.generation_id, body.member_id, body.group_instance_id) == (3, "m", "i")
    assert [
        (t.name, p.partition_index, p.committed_offset, p.committed_metadata)
        for t in body.topics
        for p in t.partitions
    ] == [("t", 0, 17, "stamp"), ("t", 1, 4, "")]
    assert len(scripted.requests(END_TXN)) == 1


@pytest.mark.parametrize(
    "number", [ErrorCode.illegal_generation, ErrorCode.unknown_member_id, ErrorCode.fenced_instance_id]
)
def test_offsets_of_a_generation_that_is_over_rewind(scripted, producer, number):
    def over(request):
        topics = [{"name": "t", "partitions": [{"partition_index": 0, "error_code": number}]}]
        return scripted.answer(request, topics=topics)

    scripted.next_time(TXN_OFFSET_COMMIT, over)
    producer.begin()
    producer.send(T0, numbered(0, 3))
    with pytest.raises(Rewind):
        producer.send_offsets(Place(), {T0: (17, "")})
    with pytest.raises(Rewind):
        producer.commit()
    assert scripted.requests(END_TXN) == []


def test_a_broker_that_cannot_check_generations_is_refused(scripted, producer):
    scripted.versions[TXN_OFFSET_COMMIT] = (0, 2)
    scripted.brokers[0].cut()
    producer.begin()
    with pytest.raises(Refused, match="txn_offset_commit"):
        producer.send_offsets(Place(), {T0: (17, "")})


def test_abort_drops_what_was_sent(scripted, producer):
    producer.begin()
    producer.send(T0, numbered(0, 3))
    producer.flush()
    producer.send(T0, numbered(3, 6))
    producer.abort()
    producer.begin()
    producer.send(T0, numbered(9, 10))
    producer.commit()
    headers = [produced(body)["t", 0] for body in scripted.requests(PRODUCE)]
    assert [(h.producer_epoch, h.base_sequence, h.count) for h in headers] == [(0, 0, 3), (1, 0, 1)]


def test_rows_of_a_transaction_survive_a_lost_connection(scripted, producer):
    scripted.next_time(PRODUCE, lambda _: Cut(0))
    producer.begin()
    producer.send(T0, numbered(0, 3))
    producer.commit()
    assert [produced(body)["t", 0].base_sequence for body in scripted.requests(PRODUCE)] == [0, 0]
    assert len(scripted.requests(END_TXN)) == 1


def test_old_rows_of_unknown_fate_give_the_transaction_up(scripted, producer):
    """Kafka may have forgotten their producer, and would take them a second time."""
    scripted.next_time(PRODUCE, lambda _: Cut(0))
    producer.begin()
    producer.send(T0, rows_of(b"x", timestamp=1_000))
    with pytest.raises(Rewind, match="a broker may have forgotten whether it has them"):
        producer.commit()
    assert len(scripted.requests(PRODUCE)) == 1
    assert scripted.requests(END_TXN) == []
    producer.init_transactions()


def test_verbs_out_of_order_are_refused(cluster):
    with pytest.raises(ValueError, match="acks all"):
        Producer(cluster, acks=1, transactional_id="tx")
    plain = Producer(cluster)
    with pytest.raises(RuntimeError):
        plain.init_transactions()
    with pytest.raises(RuntimeError):
        plain.commit()
    producer = Producer(cluster, transactional_id="tx")
    producer.init_transactions()
    with pytest.raises(RuntimeError):
        producer.send(T0, numbered(0, 1))
    producer.begin()
    with pytest.raises(RuntimeError):
        producer.begin()
