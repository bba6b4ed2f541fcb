import threading

import pytest

from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.errors import LogTruncated, OffsetOutOfRange, Refused, UnknownTopic
from tailrace.broker.client.fetcher import Fetcher
from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.client.versions import FETCH, METADATA, OFFSET_FOR_LEADER_EPOCH
from tailrace.broker.wire.batch import stamp
from tailrace.broker.wire.encode import encode_batch
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.fetch import FetchResponse, PartitionFetched, TopicFetched
from tailrace.errors import Corrupt, Retry
from tests.support.rows import numbered
from tests.support.scripted_broker import Body, Cut, ScriptedCluster

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def batch(start, end, epoch=1, **settings):
    """One record batch whose bodies are its offsets."""
    data = bytearray(encode_batch(numbered(start, end), **settings))
    stamp(data, 0, start, epoch)
    return bytes(data)


def serving(scripted, records, **fields):
    """A reaction: these bytes for every partition of the request, by partition number."""

    def react(request):
        topics = [
            TopicFetched(
                topic.name,
                topic.topic_id,
                [
                    PartitionFetched(
                        wanted.partition,
                        **{"high_watermark": 1000, "last_stable_offset": 900, "log_start": 0} | fields,
                        records=records.get(wanted.partition, b""),
                    )
                    for wanted in topic.partitions
                ],
            )
            for topic in request.body.topics
        ]
        return Body(FetchResponse(topics))

    return react


def failing(code, partitions=(0,)):
    def react(request):
        return Body(
            FetchResponse(
                [
                    TopicFetched(
                        topic.name,
                        topic.topic_id,
                        [
                            PartitionFetched(w.partition, error=code if w.partition in partitions else 0)
                            for w in topic.partitions
                        ],
                    )
                    for topic in request.body.topics
                ]
            )
        )

    return react


def wanted(body):
    return {w.partition: w.offset for topic in body.topics for w in topic.partitions}


def bodies(fetched):
    return [int(body) for body in fetched.rows.column("body").to_pylist()]


def poll(fetcher, seconds=5.0):
    fetched = fetcher.poll(seconds)
    assert fetched is not None
    return fetched


@pytest.fixture
def fetcher(cluster, scripted):
    fetcher = Fetcher(cluster, max_wait=0.01)
    yield fetcher
    fetcher.close()


def test_rows_carry_their_offsets_and_batches_follow_without_a_gap(scripted, fetcher):
    scripted.next_time(
        FETCH, serving(scripted, {0: batch(5, 8) + batch(8, 10)}), serving(scripted, {0: batch(10, 11)})
    )
    fetcher.seek(T0, 5)
    first, second = poll(fetcher), poll(fetcher)
    assert (first.partition, first.start, first.end) == (T0, 5, 10)
    assert first.rows.column("position").to_pylist() == bodies(first) == [5, 6, 7, 8, 9]
    assert (first.high_watermark, first.last_stable, first.log_start) == (1000, 900, 0)
    assert (second.start, second.end, bodies(second)) == (10, 11, [10])
    assert fetcher.positions() == {T0: 11}
    assert fetcher.lag() == {T0: 889}


def test_the_next_request_is_out_before_an_answer_is_given(scripted, fetcher):
    scripted.next_time(FETCH, serving(scripted, {0: batch(0, 3)}))
    fetcher.seek(T0, 0)
    poll(fetcher)
    assert [wanted(body) for body in scripted.wait_for(FETCH, 2)[:2]] == [{0: 0}, {0: 3}]


def test_rows_stay_what_they_are_when_the_next_answer_comes(scripted, fetcher):
    """The connection writes every answer into one buffer: what poll() gave must not be a view into it."""
    scripted.next_time(FETCH, *[serving(scripted, {0: batch(n * 100, n * 100 + 100)}) for n in range(5)])
    fetcher.seek(T0, 0)
    answers = [poll(fetcher) for _ in range(5)]
    assert [bodies(fetched) for fetched in answers] == [list(range(n * 100, n * 100 + 100)) for n in range(5)]


def test_a_position_inside_a_batch_drops_the_rows_before_it(scripted, fetcher):
    scripted.next_time(FETCH, serving(scripted, {0: batch(0, 10)}))
    fetcher.seek(T0, 7)
    fetched = poll(fetcher)
    assert (fetched.start, fetched.end, bodies(fetched)) == (7, 10, [7, 8, 9])


def test_a_batch_cut_at_the_end_is_asked_for_again(scripted, fetcher):
    whole = batch(0, 3)
    scripted.next_time(
        FETCH, serving(scripted, {0: whole + batch(3, 6)[:-1]}), serving(scripted, {0: batch(3, 6)})
    )
    fetcher.seek(T0, 0)
    assert poll(fetcher).end == 3
    assert bodies(poll(fetcher)) == [3, 4, 5]


def test_partitions_take_turns(scripted, fetcher):
    scripted.next_time(FETCH, serving(scripted, {0: batch(0, 2)}))
    fetcher.seek(T0, 0)
    fetcher.seek(T1, 0)
    assert poll(fetcher).partition == T0
    order = [w.partition for w in scripted.wait_for(FETCH, 2)[1].topics[0].partitions]
    assert order == [1, 0]


def test_what_was_asked_before_a_seek_is_dropped(scripted, fetcher):
    scripted.next_time(FETCH, serving(scripted, {0: batch(0, 3), 1: batch(0, 4)}))
    fetcher.seek(T0, 0)
    fetcher.seek(T1, 0)
    assert bodies(poll(fetcher)) == [0, 1, 2]
    # For the request that is out already, too: that answer must be dropped.
    scripted.batches["t", 0] = batch(50, 51)
    fetcher.drop([T1])
    fetcher.seek(T0, 50)
    fetched = poll(fetcher)
    assert (fetched.partition, fetched.start) == (T0, 50)
    assert fetcher.positions() == {T0: 51}


def test_a_lost_connection_repeats_the_request(scripted, fetcher):
    scripted.next_time(FETCH, lambda _: Cut(30), serving(scripted, {0: batch(3, 5)}))
    fetcher.seek(T0, 3)
    with pytest.raises(Retry):
        fetcher.poll(5)
    assert bodies(poll(fetcher)) == [3, 4]
    assert [wanted(body) for body in scripted.requests(FETCH)[:2]] == [{0: 3}, {0: 3}]


def test_out_of_range_tells_the_range_and_the_others_go_on(scripted, fetcher):
    scripted.next_time(FETCH, failing(ErrorCode.offset_out_of_range))
    scripted.next_time(FETCH, serving(scripted, {1: batch(0, 2)}))
    fetcher.seek(T0, 7)
    fetcher.seek(T1, 0)
    with pytest.raises(OffsetOutOfRange, match=r"t-0: offset 7 is outside the log \[100, 200\)") as caught:
        fetcher.poll(5)
    assert (caught.value.log_start, caught.value.log_end) == (100, 200)
    assert poll(fetcher).partition == T1
    assert fetcher.poll(0.2) is None
    scripted.next_time(
        FETCH, serving(scripted, {0: batch(100, 101)}), serving(scripted, {0: batch(100, 101)})
    )
    fetcher.seek(T0, 100)
    assert poll(fetcher).start == 100


def test_a_leader_that_moved_is_followed_with_its_epoch(cluster):
    scripted = ScriptedCluster({"t": 1}, nodes=2)
    try:

        def moved(request):
            scripted.leaders["t", 0] = (1, 6)
            return failing(ErrorCode.fenced_leader_epoch)(request)

        scripted.next_time(FETCH, moved, serving(scripted, {0: batch(0, 2, epoch=6)}))
        fetcher = Fetcher(Cluster(scripted.bootstrap), max_wait=0.01)
        fetcher.seek(T0, 0)
        assert bodies(poll(fetcher)) == [0, 1]
        asked = [
            (s.node, s.request.body.topics[0].partitions[0])
            for s in scripted.seen
            if s.request.api_key == FETCH
        ]
        assert [(node, partition.leader_epoch) for node, partition in asked[:2]] == [(0, 1), (1, 6)]
    finally:
        scripted.close()


def test_a_log_cut_short_under_a_new_leader_is_told(scripted, fetcher):
    def moved(request):
        scripted.leaders["t", 0] = (0, 2)
        return failing(ErrorCode.fenced_leader_epoch)(request)

    def cut_short(request):
        topics = [{"topic": "t", "partitions": [{"partition": 0, "leader_epoch": 1, "end_offset": 4}]}]
        return scripted.answer(request, topics=topics)

    scripted.next_time(FETCH, serving(scripted, {0: batch(0, 6)}), moved)
    scripted.next_time(OFFSET_FOR_LEADER_EPOCH, cut_short)
    fetcher.seek(T0, 0)
    assert poll(fetcher).end == 6
    with pytest.raises(LogTruncated, match="read up to offset 6 of leader epoch 1, which now ends at 4"):
        fetcher.poll(5)
    assert fetcher.poll(0.05) is None


def test_a_new_leader_with_the_same_log_is_read_on(scripted, fetcher):
    def moved(request):
        scripted.leaders["t", 0] = (0, 2)
        return failing(ErrorCode.not_leader_or_follower)(request)

    scripted.next_time(
        FETCH, serving(scripted, {0: batch(0, 6)}), moved, serving(scripted, {0: batch(6, 7, 2)})
    )
    fetcher.seek(T0, 0)
    assert [poll(fetcher).end, poll(fetcher).end] == [6, 7]
    assert len(scripted.requests(OFFSET_FOR_LEADER_EPOCH)) == 1


def test_a_topic_made_anew_is_not_taken_for_the_old_one(scripted, fetcher):
    def remade(request):
        scripted.add_topic("t", 2)
        return failing(ErrorCode.unknown_topic_id)(request)

    scripted.next_time(FETCH, serving(scripted, {0: batch(0, 2)}), remade)
    fetcher.seek(T0, 0)
    poll(fetcher)
    with pytest.raises(UnknownTopic, match="topic 't' was made anew"):
        fetcher.poll(5)
    assert fetcher.poll(0.05) is None


def test_a_topic_id_that_is_asked_for_is_insisted_on(scripted, fetcher):
    fetcher.seek(T0, 0, topic_id="0" * 31 + "1")
    with pytest.raises(UnknownTopic, match="made anew"):
        fetcher.poll(1)
    fetcher.seek(T0, 0, topic_id=scripted.ids["t"].hex)
    scripted.next_time(FETCH, serving(scripted, {0: batch(0, 2)}))
    assert poll(fetcher).end == 2


def test_a_topic_that_is_gone_is_named_and_the_others_go_on(scripted, fetcher):
    gone = TopicPartition("gone", 0)
    scripted.batches["t", 0] = batch(0, 2)
    fetcher.seek(gone, 0)
    fetcher.seek(T0, 0)
    with pytest.raises(UnknownTopic, match="topic 'gone' does not exist"):
        fetcher.poll(5)
    assert poll(fetcher).partition == T0


def test_brokers_without_topic_ids_are_asked_by_name(scripted):
    scripted.versions[FETCH] = (4, 11)
    scripted.versions[METADATA] = (0, 8)
    scripted.next_time(FETCH, serving(scripted, {0: batch(0, 2)}))
    fetcher = Fetcher(Cluster(scripted.bootstrap), max_wait=0.01)
    fetcher.seek(T0, 0)
    assert bodies(poll(fetcher)) == [0, 1]
    assert scripted.requests(FETCH)[0].topics[0].name == "t"
    fetcher.close()


def test_an_error_that_does_not_pass_is_told_and_the_partition_rests(scripted, fetcher):
    scripted.next_time(FETCH, failing(ErrorCode.topic_authorization_failed))
    fetcher.seek(T0, 0)
    with pytest.raises(Refused, match="fetching t-0 from offset 0: TOPIC_AUTHORIZATION_FAILED"):
        fetcher.poll(5)
    assert fetcher.poll(0.05) is None
    assert len(scripted.requests(FETCH)) == 1


def flipped(data, at):
    changed = bytearray(data)
    changed[at] ^= 0x40
    return bytes(changed)


@pytest.mark.parametrize(
    "records",
    [
        flipped(batch(3, 6), 70),
        flipped(batch(3, 6), 11),
        b"\0" * 8 + b"\0\0\0\x01" + b"\0" * 40,
        b"\0" * 8 + b"\xff\xff\xff\xff" + b"\0" * 60,
        batch(0, 2),
        batch(3, 6)[:-1],
    ],
    ids=["bad crc", "length", "tiny length", "negative length", "before the position", "no whole batch"],
)
def test_bytes_that_cannot_be_right_are_corrupt(scripted, fetcher, records):
    scripted.next_time(FETCH, serving(scripted, {0: records}))
    fetcher.seek(T0, 3)
    with pytest.raises(Corrupt):
        fetcher.poll(5)


def test_a_partition_that_was_not_asked_for_is_corrupt(scripted, fetcher):
    def another(request):
        (topic,) = request.body.topics
        return Body(FetchResponse([TopicFetched(topic.name, topic.topic_id, [PartitionFetched(1)])]))

    scripted.next_time(FETCH, another)
    fetcher.seek(T0, 3)
    with pytest.raises(Corrupt, match="not asked for"):
        fetcher.poll(5)


def test_poll_returns_in_time_when_nothing_is_there(scripted, cluster):
    go_on = threading.Event()
    scripted.next_time(
        FETCH, lambda request: (go_on.wait(10), serving(scripted, {0: batch(0, 2)})(request))[1]
    )
    fetcher = Fetcher(cluster)
    assert fetcher.poll(0.01) is None
    fetcher.seek(T0, 0)
    assert fetcher.poll(0.05) is None
    go_on.set()
    assert poll(fetcher).end == 2
    fetcher.close()


def test_markers_and_empty_answers_move_the_position_only_as_far_as_they_reach(scripted, fetcher):
    from tailrace.broker.wire.control import control_batch

    marker = control_batch(
        producer_id=7, producer_epoch=0, commit=True, coordinator_epoch=0, timestamp=0, base_offset=4
    )
    scripted.next_time(FETCH, serving(scripted, {}), serving(scripted, {0: bytes(marker)}))
    fetcher.seek(T0, 4)
    fetched = poll(fetcher)
    assert (fetched.start, fetched.end, fetched.rows.num_rows) == (4, 5, 0)
