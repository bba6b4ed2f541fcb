import time

import pytest

from tailrace.broker.client import group as group_module
from tailrace.broker.client.consumer_protocol import (
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from tailrace.broker.client.errors import Refused
from tailrace.broker.client.group import Group, Joined, Left
from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.client.versions import (
    FIND_COORDINATOR,
    HEARTBEAT,
    JOIN_GROUP,
    LEAVE_GROUP,
    OFFSET_COMMIT,
    SYNC_GROUP,
)
from tailrace.broker.wire import messages
from tailrace.broker.wire.errors import ErrorCode
from tailrace.errors import Corrupt, Fenced, Retry
from tests.support.scripted_broker import Body, Cut, Silence

T0, T1 = TopicPartition("t", 0), TopicPartition("t", 1)


def code(number, **values):
    return lambda request: Body(
        messages.response(request.api_key, request.api_version, error_code=number, **values)
    )


def change(group, seconds=10.0):
    """The next change of the membership."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = group.poll_membership(0.05)
        if found is not None:
            return found
        time.sleep(0.01)
    raise AssertionError(f"no change within {seconds} s")


@pytest.fixture
def group(cluster):
    group = Group(cluster, "g", ["t"], heartbeat_interval=0.02, session_timeout=6.0)
    yield group
    group.close(leave=False)


def test_a_member_joins_leads_and_gets_its_partitions(scripted, group):
    joined = change(group)
    assert joined.partitions == (T0, T1)
    assert (joined.generation.generation, joined.generation.member_id) == (1, "member-1")
    assert group.generation is joined.generation
    (body,) = scripted.requests(JOIN_GROUP)
    assert [protocol.name for protocol in body.protocols] == ["range"]
    assert decode_subscription(body.protocols[0].metadata) == ("t",)
    (sync,) = scripted.requests(SYNC_GROUP)
    assert decode_assignment(sync.assignments[0].assignment) == (T0, T1)
    assert group.poll_membership() is None
    scripted.wait_for(HEARTBEAT, 2)


def test_a_member_id_that_the_coordinator_gives_is_used(scripted, group):
    scripted.next_time(JOIN_GROUP, code(ErrorCode.member_id_required, member_id="given"))
    assert change(group).generation.member_id == "given"
    assert [body.member_id for body in scripted.requests(JOIN_GROUP)] == ["", "given"]


def test_a_follower_assigns_nothing_and_takes_what_it_gets(scripted, group):
    scripted.next_time(
        JOIN_GROUP,
        code(0, generation_id=4, protocol_name="range", leader="other", member_id="me", members=[]),
    )
    scripted.next_time(SYNC_GROUP, code(0, assignment=encode_assignment([T1])))
    joined = change(group)
    assert joined.partitions == (T1,)
    assert scripted.requests(SYNC_GROUP)[0].assignments == ()


def test_a_rebalance_gives_notice_before_the_partitions_go(scripted, group):
    joined = change(group)
    scripted.next_time(HEARTBEAT, code(ErrorCode.rebalance_in_progress))
    assert change(group) == Left((T0, T1), lost=False)
    joined.generation.heartbeat()
    assert len(scripted.requests(JOIN_GROUP)) == 1
    again = change(group)
    assert isinstance(again, Joined)
    assert scripted.requests(JOIN_GROUP)[1].member_id == "member-1"
    with pytest.raises(Fenced, match="generation 1 of group 'g' is over"):
        joined.generation.heartbeat()
    again.generation.heartbeat()


@pytest.mark.parametrize(
    ("number", "member_id"), [(ErrorCode.illegal_generation, "member-1"), (ErrorCode.unknown_member_id, "")]
)
def test_a_place_that_is_lost_is_told_as_lost(scripted, group, number, member_id):
    joined = change(group)
    scripted.next_time(HEARTBEAT, code(number))
    assert change(group) == Left((T0, T1), lost=True)
    with pytest.raises(Fenced):
        joined.generation.heartbeat()
    assert isinstance(change(group), Joined)
    assert scripted.requests(JOIN_GROUP)[1].member_id == member_id


def test_another_process_with_the_same_instance_id_fences(scripted, cluster):
    group = Group(cluster, "g", ["t"], instance_id="i", heartbeat_interval=0.02)
    change(group)
    scripted.next_time(HEARTBEAT, code(ErrorCode.fenced_instance_id))
    with pytest.raises(Fenced, match="another process has joined as 'i'"):
        change(group)
    group.close()
    assert scripted.requests(LEAVE_GROUP) == []


def test_a_session_that_ran_out_unheard_is_lost(scripted, cluster):
    group = Group(cluster, "g", ["t"], heartbeat_interval=0.02, session_timeout=0.3)
    change(group)
    scripted.brokers[0].stop()
    assert change(group) == Left((T0, T1), lost=True)
    group.close()


def test_heartbeats_follow_the_coordinator(scripted, group):
    change(group)
    scripted.next_time(HEARTBEAT, code(ErrorCode.not_coordinator))
    count = len(scripted.requests(FIND_COORDINATOR))
    scripted.wait_for(FIND_COORDINATOR, count + 1)
    assert group.poll_membership() is None


def test_joining_is_waited_for_in_slices(scripted, group):
    scripted.next_time(JOIN_GROUP, lambda _: Silence())
    assert group.poll_membership(0.05) is None
    assert group.poll_membership(0.05) is None
    assert len(scripted.wait_for(JOIN_GROUP, 1)) == 1
    scripted.brokers[0].cut()
    with pytest.raises(Retry):
        change(group)
    assert isinstance(change(group), Joined)


def test_a_lost_answer_to_sync_joins_again(scripted, group):
    scripted.next_time(SYNC_GROUP, lambda _: Cut(0))
    with pytest.raises(Retry):
        change(group)
    assert isinstance(change(group), Joined)
    assert [body.member_id for body in scripted.requests(JOIN_GROUP)] == ["", "member-1"]


@pytest.mark.parametrize("key", [JOIN_GROUP, SYNC_GROUP])
def test_a_member_that_the_coordinator_forgot_joins_anew(scripted, group, key):
    scripted.next_time(key, code(ErrorCode.unknown_member_id))
    assert isinstance(change(group), Joined)


def test_assignors_that_the_others_do_not_have_are_named(scripted, group):
    scripted.next_time(JOIN_GROUP, code(ErrorCode.inconsistent_group_protocol))
    with pytest.raises(Refused, match="its members use none of the assignors range"):
        change(group)


@pytest.mark.parametrize(
    "assignment",
    [b"\x00", b"\xff\xff", b"\x00\x00\x7f\xff\xff\xff", encode_assignment([TopicPartition("other", 0)])],
    ids=["short", "no version", "huge count", "a topic not subscribed to"],
)
def test_an_assignment_that_cannot_be_right_is_corrupt(scripted, group, assignment):
    scripted.next_time(SYNC_GROUP, code(0, assignment=assignment))
    with pytest.raises(Corrupt):
        change(group)


def test_the_leader_notices_new_partitions(scripted, group, monkeypatch):
    monkeypatch.setattr(group_module, "_WATCH_EVERY", 0.01)
    change(group)
    scripted.leaders["t", 2] = (0, 1)
    assert change(group) == Left((T0, T1), lost=False)
    assert change(group).partitions == (T0, T1, TopicPartition("t", 2))


def test_a_topic_that_appears_later_is_assigned_then(scripted, cluster, monkeypatch):
    monkeypatch.setattr(group_module, "_WATCH_MISSING_EVERY", 0.01)
    group = Group(cluster, "g", ["later"], heartbeat_interval=0.05)
    assert change(group).partitions == ()
    scripted.add_topic("later", 1)
    assert change(group) == Left((), lost=False)
    assert change(group).partitions == (TopicPartition("later", 0),)
    group.close()


def test_offsets_go_with_the_generation(scripted, group):
    scripted.next_time(
        OFFSET_COMMIT,
        code_in_topics(ErrorCode.not_coordinator),
        code_in_topics(ErrorCode.none),
        code_in_topics(ErrorCode.illegal_generation),
    )
    joined = change(group)
    joined.generation.commit({T0: (12, "stamp")})
    body = scripted.requests(OFFSET_COMMIT)[-1]
    assert (body.generation_id_or_member_epoch, body.member_id) == (1, "member-1")
    (partition,) = body.topics[0].partitions
    assert (partition.committed_offset, partition.committed_metadata) == (12, "stamp")
    with pytest.raises(Fenced):
        joined.generation.commit({T0: (13, "")})


def code_in_topics(number):
    topics = [{"name": "t", "partitions": [{"partition_index": 0, "error_code": number}]}]
    return lambda request: Body(messages.response(request.api_key, request.api_version, topics=topics))


def test_close_leaves_and_a_static_member_stays(scripted, cluster):
    group = Group(cluster, "g", ["t"])
    generation = change(group).generation
    group.close()
    (body,) = scripted.requests(LEAVE_GROUP)
    assert [member.member_id for member in body.members] == ["member-1"]
    with pytest.raises(Fenced):
        generation.heartbeat()
    static = Group(cluster, "g", ["t"], instance_id="i")
    change(static)
    static.close()
    assert len(scripted.requests(LEAVE_GROUP)) == 1


def test_close_copes_with_a_broker_that_is_gone(scripted, cluster):
    group = Group(type(cluster)(scripted.bootstrap, patience=0.1), "g", ["t"])
    change(group)
    scripted.brokers[0].stop()
    group.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_consumer_protocol_is_the_one_other_clients_read():
    from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

    theirs = ConsumerProtocolSubscription.decode(encode_subscription(["b", "a"]))
    assert list(theirs.topics) == ["a", "b"]
    assigned = ConsumerProtocolAssignment.decode(encode_assignment([T1, T0]))
    assert [(t.topic, list(t.partitions)) for t in assigned.assigned_partitions] == [("t", [0, 1])]
    newer = b"\x00\x03" + encode_subscription(["a"])[2:] + b"\x00\x00\x00\x00\x00\x00\x00\x05\xff\xff"
    assert decode_subscription(newer) == ("a",)
    assert decode_assignment(b"") == ()
