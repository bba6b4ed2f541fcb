"""ListOffsets and OffsetForLeaderEpoch over a socket."""

import pytest

from tailrace.broker.wire.errors import ErrorCode
from tests.support.batches import NOW, plain
from tests.support.live_broker import LiveBroker
from tests.support.wire_client import WireClient


def offset_of(
    client: WireClient, topic: str, timestamp: int, version: int = 7, **more: int
) -> tuple[int, int, int]:
    partition = {"partition_index": 0, "timestamp": timestamp, **more}
    answer = client.call(2, version, topics=[{"name": topic, "partitions": [partition]}])
    found = answer.topics[0].partitions[0]
    return found.error_code, found.offset, found.timestamp


@pytest.mark.parametrize("version", range(1, 10))
def test_where_a_log_begins_and_ends_in_every_version(client: WireClient, topic: str, version: int) -> None:
    client.produce(topic, plain(b"a", b"b", b"c"))
    assert offset_of(client, topic, -1, version) == (0, 3, -1)
    assert offset_of(client, topic, -2, version) == (0, 0, -1)
    assert offset_of(client, topic, NOW + 1, version) == (0, 1, NOW + 1)
    assert offset_of(client, topic, NOW + 99, version) == (0, -1, -1)


def test_the_largest_timestamp_and_the_questions_of_tiered_storage(client: WireClient, topic: str) -> None:
    assert offset_of(client, topic, -3) == (0, -1, -1)
    client.produce(topic, plain(b"late", timestamp=NOW + 500))
    client.produce(topic, plain(b"early"))
    assert offset_of(client, topic, -3) == (0, 0, NOW + 500)
    assert offset_of(client, topic, -4, 8) == (0, 0, -1)
    assert offset_of(client, topic, -5, 9) == (0, -1, -1)


def test_what_is_not_there_and_a_stale_epoch_are_told(client: WireClient, topic: str) -> None:
    assert offset_of(client, "no-such", -1)[0] == ErrorCode.unknown_topic_or_partition
    assert offset_of(client, topic, -1, partition_index=7)[0] == ErrorCode.unknown_topic_or_partition
    assert offset_of(client, topic, -1, current_leader_epoch=99)[0] == ErrorCode.unknown_leader_epoch


def test_a_partition_asked_for_twice_is_answered_once(client: WireClient, topic: str) -> None:
    asked = [{"partition_index": 0, "timestamp": -1}] * 2
    first, second = client.call(2, 7, topics=[{"name": topic, "partitions": asked}]).topics[0].partitions
    assert (first.error_code, first.offset) == (0, 0)
    assert second.error_code == ErrorCode.invalid_request


@pytest.mark.parametrize("version", range(2, 5))
def test_the_end_of_an_epoch(client: WireClient, topic: str, version: int) -> None:
    client.produce(topic, plain(b"a", b"b"))
    wanted = [{"partition": 0, "leader_epoch": 0}, {"partition": 5, "leader_epoch": 0}]
    answer = client.call(23, version, topics=[{"topic": topic, "partitions": wanted}])
    here, gone = answer.topics[0].partitions
    assert (here.error_code, here.leader_epoch, here.end_offset) == (0, 0, 2)
    assert gone.error_code == ErrorCode.unknown_topic_or_partition


def test_an_unclean_start_bumps_the_epoch_and_tells_where_the_old_one_ended(tmp_path) -> None:
    with LiveBroker(tmp_path / "data") as first, first.client() as client:
        client.create("t")
        client.produce("t", plain(b"a", b"b"), acks=-1)
        first.kill()
    with LiveBroker(tmp_path / "data") as second, second.client() as client:
        epoch = client.call(3, 12, topics=[{"name": "t"}]).topics[0].partitions[0].leader_epoch
        assert epoch == 1
        assert client.fetch("t", 2, leader_epoch=0).error == ErrorCode.fenced_leader_epoch
        client.produce("t", plain(b"c"), acks=-1)
        asked = [{"partition": 0, "leader_epoch": 0, "current_leader_epoch": 1}]
        ended = client.call(23, 4, topics=[{"topic": "t", "partitions": asked}]).topics[0].partitions[0]
        assert (ended.leader_epoch, ended.end_offset) == (0, 2)
        assert second.stop() == 0
    with LiveBroker(tmp_path / "data") as third, third.client() as client:
        assert client.call(3, 12, topics=[{"name": "t"}]).topics[0].partitions[0].leader_epoch == 1
