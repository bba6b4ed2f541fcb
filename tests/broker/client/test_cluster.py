import socket

import pytest

from tailrace.broker.client.cluster import Cluster, parse_address
from tailrace.broker.client.errors import Disconnected, Refused, UnknownTopic
from tailrace.broker.client.topics import Leader, TopicPartition
from tailrace.broker.client.versions import FIND_COORDINATOR, METADATA
from tailrace.errors import Corrupt, Retry
from tests.support.scripted_broker import ScriptedCluster


def nobody() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_the_bootstrap_list_is_tried_in_turn(scripted):
    cluster = Cluster(f"{nobody()},{scripted.bootstrap}")
    assert cluster.cluster_id == "scripted"
    assert cluster.topic("t").id == scripted.ids["t"].hex


def test_no_broker_at_all_is_named(scripted):
    address = nobody()
    with pytest.raises(Disconnected, match=f"cannot connect to {address}"):
        Cluster(address).topics(())


@pytest.mark.parametrize("text", ["", "host", "host:", ":9092", "host:port", "host:70000", "host:9092,other"])
def test_a_bootstrap_list_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="expected host:port"):
        Cluster(text)


def test_addresses_may_be_ipv6():
    assert parse_address("[::1]:9092") == ("::1", 9092)
    assert parse_address(" kafka.example:1 ") == ("kafka.example", 1)


def test_a_topic_that_is_not_there_is_named_and_not_remembered(scripted, cluster):
    with pytest.raises(UnknownTopic, match="topic 'u' does not exist"):
        cluster.topic("u")
    assert not any(body.allow_auto_topic_creation for body in scripted.requests(METADATA))
    scripted.add_topic("u", 1)
    assert cluster.topic("u").partitions == (Leader(0, 1),)


def test_metadata_is_asked_once_until_it_is_forgotten(scripted, cluster):
    for _ in range(3):
        assert cluster.leader(TopicPartition("t", 1)) == Leader(0, 1)
    assert len(scripted.requests(METADATA)) == 1
    scripted.leaders["t", 1] = (0, 2)
    cluster.forget_topic("t")
    assert cluster.leader(TopicPartition("t", 1)) == Leader(0, 2)


def test_a_broker_that_lags_does_not_bring_back_an_older_leader(scripted, cluster):
    scripted.leaders["t", 0] = (0, 5)
    cluster.topic("t")
    scripted.leaders["t", 0] = (1, 4)
    assert cluster.topic("t", fresh=True).partitions[0] == Leader(0, 5)


def test_a_partition_that_is_new_is_found(scripted, cluster):
    cluster.topic("t")
    scripted.leaders["t", 2] = (0, 1)
    assert cluster.leader(TopicPartition("t", 2)) == Leader(0, 1)
    with pytest.raises(UnknownTopic, match="t-3: the topic has 3 partitions"):
        cluster.leader(TopicPartition("t", 3))


def test_a_partition_without_a_leader_is_to_be_asked_for_again(scripted, cluster):
    scripted.leaders["t", 0] = (-1, 3)
    with pytest.raises(Retry, match="t-0 has no leader now"):
        cluster.leader(TopicPartition("t", 0))
    scripted.leaders["t", 0] = (0, 4)
    assert cluster.leader(TopicPartition("t", 0)) == Leader(0, 4)


def test_partitions_with_holes_are_refused(scripted, cluster):
    scripted.leaders.pop(("t", 0))
    with pytest.raises(Corrupt, match=r"its partitions are numbered \[1\]"):
        cluster.topic("t")


def test_an_error_of_a_topic_names_it(scripted, cluster):
    scripted.next_time(
        METADATA,
        lambda request: scripted.answer(request, topics=[{"name": "t", "error_code": 29, "topic_id": None}]),
    )
    with pytest.raises(Refused, match="topic 't': TOPIC_AUTHORIZATION_FAILED"):
        cluster.topic("t")


def test_a_coordinator_is_asked_for_once_until_it_is_forgotten(scripted, cluster):
    for _ in range(2):
        assert cluster.coordinator("group", "g") == 0
    assert len(scripted.requests(FIND_COORDINATOR)) == 1
    cluster.forget_coordinator("group", "g")
    scripted.next_time(FIND_COORDINATOR, lambda request: scripted.answer(request, error_code=15))
    with pytest.raises(Retry, match="COORDINATOR_NOT_AVAILABLE"):
        cluster.coordinator("group", "g")
    assert cluster.coordinator("group", "g") == 0


def test_a_node_that_moved_is_found_at_its_new_address():
    scripted = ScriptedCluster({"t": 1}, nodes=2)
    try:
        cluster = Cluster(scripted.brokers[0].address)
        cluster.topics(())
        scripted.brokers[1].stop()
        with pytest.raises(Disconnected):
            cluster.connect(1)
        scripted.brokers[1].start(anew=True)
        cluster.connect(1).close()
    finally:
        scripted.close()
