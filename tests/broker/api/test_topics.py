"""Metadata, CreateTopics, DeleteTopics and DescribeConfigs over a socket."""

import uuid

import pytest

from tailrace.broker.wire.errors import ErrorCode
from tests.support.batches import plain
from tests.support.live_broker import LiveBroker
from tests.support.wire_client import WireClient


@pytest.mark.parametrize("version", range(13))
def test_metadata_names_the_broker_and_the_topic_in_every_version(
    broker: LiveBroker, client: WireClient, topic: str, version: int
) -> None:
    answer = client.call(3, version, topics=[{"name": topic}])
    assert [(b.host, b.port) for b in answer.brokers] == [("127.0.0.1", broker.port)]
    (found,) = answer.topics
    assert (found.error_code, found.name, len(found.partitions)) == (0, topic, 2)
    node = answer.brokers[0].node_id
    assert {(p.leader_id, p.replica_nodes, p.isr_nodes) for p in found.partitions} == {
        (node, (node,), (node,))
    }
    assert getattr(found, "topic_id", True)


@pytest.mark.parametrize(("version", "everything"), [(0, []), (1, None), (12, None)])
def test_all_topics_are_listed_and_none_when_none_is_asked_for(
    client: WireClient, topic: str, version: int, everything: object
) -> None:
    assert topic in {t.name for t in client.call(3, version, topics=everything).topics}
    if version:
        assert client.call(3, version, topics=[]).topics == ()


def test_asking_for_a_topic_makes_it_unless_the_client_says_no(client: WireClient) -> None:
    refused = client.call(3, 12, topics=[{"name": "auto-a"}], allow_auto_topic_creation=False)
    assert refused.topics[0].error_code == ErrorCode.unknown_topic_or_partition
    made = client.call(3, 12, topics=[{"name": "auto-a"}], allow_auto_topic_creation=True).topics[0]
    assert (made.error_code, len(made.partitions)) == (0, 1)
    again = client.call(3, 12, topics=[{"name": None, "topic_id": made.topic_id}]).topics[0]
    assert again.name == "auto-a"


def test_names_that_cannot_be_topics_are_told_so(client: WireClient) -> None:
    names = ["", ".", "..", "a/b", "ä", "x" * 250, "a b"]
    answer = client.call(3, 12, topics=[{"name": name} for name in names])
    assert {t.error_code for t in answer.topics} == {ErrorCode.invalid_topic_exception}
    created = client.call(
        19, 7, topics=[{"name": name, "num_partitions": 1, "replication_factor": 1} for name in names]
    )
    assert {t.error_code for t in created.topics} == {ErrorCode.invalid_topic_exception}


def test_auto_creation_can_be_switched_off(tmp_path) -> None:
    with LiveBroker(tmp_path / "data", auto_create_topics=False) as strict, strict.client() as client:
        answer = client.call(3, 12, topics=[{"name": "t"}], allow_auto_topic_creation=True)
        assert answer.topics[0].error_code == ErrorCode.unknown_topic_or_partition


def test_an_unknown_topic_id_is_told(client: WireClient) -> None:
    answer = client.call(3, 12, topics=[{"name": None, "topic_id": uuid.uuid4()}])
    assert answer.topics[0].error_code == ErrorCode.unknown_topic_id


@pytest.mark.parametrize("version", range(2, 8))
def test_topics_are_created_in_every_version_once(client: WireClient, version: int) -> None:
    name = f"created-{version}"
    topic = {"name": name, "num_partitions": 3, "replication_factor": 1}
    assert client.call(19, version, topics=[topic], validate_only=True).topics[0].error_code == 0
    made = client.call(19, version, topics=[topic]).topics[0]
    assert made.error_code == 0
    if version >= 5:
        assert made.num_partitions == 3
    assert client.call(19, version, topics=[topic]).topics[0].error_code == ErrorCode.topic_already_exists


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"num_partitions": 0}, ErrorCode.invalid_partitions),
        ({"num_partitions": 2**31 - 1}, ErrorCode.invalid_partitions),
        ({"num_partitions": -2}, ErrorCode.invalid_partitions),
        ({"replication_factor": 2}, ErrorCode.invalid_replication_factor),
        ({"name": "__consumer_offsets"}, ErrorCode.invalid_topic_exception),
        ({"configs": [{"name": "no.such.setting", "value": "1"}]}, ErrorCode.invalid_config),
        ({"configs": [{"name": "retention.ms", "value": "soon"}]}, ErrorCode.invalid_config),
        ({"configs": [{"name": "compression.type", "value": "lz4"}]}, ErrorCode.invalid_config),
        ({"assignments": [{"partition_index": 0, "broker_ids": [77]}]}, ErrorCode.invalid_replica_assignment),
    ],
)
def test_a_topic_that_cannot_be_is_refused_with_the_reason(
    client: WireClient, change: dict[str, object], error: ErrorCode
) -> None:
    topic = {"name": "cannot-be", "num_partitions": 1, "replication_factor": 1, **change}
    refused = client.call(19, 7, topics=[topic]).topics[0]
    assert refused.error_code == error
    assert refused.error_message
    assert "cannot-be" not in {t.name for t in client.call(3, 12, topics=None).topics}


def test_the_same_name_twice_in_a_request_is_refused_both_times(client: WireClient) -> None:
    topic = {"name": "twice", "num_partitions": 1, "replication_factor": 1}
    answer = client.call(19, 7, topics=[topic, topic])
    assert [t.error_code for t in answer.topics] == [ErrorCode.invalid_request] * 2


def test_defaults_stand_in_for_minus_one(client: WireClient) -> None:
    made = client.call(
        19, 7, topics=[{"name": "minus", "num_partitions": -1, "replication_factor": -1}]
    ).topics[0]
    assert (made.error_code, made.num_partitions, made.replication_factor) == (0, 1, 1)


@pytest.mark.parametrize("version", range(1, 7))
def test_topics_are_deleted_in_every_version_and_a_new_one_is_another(
    client: WireClient, version: int
) -> None:
    name = f"deleted-{version}"
    client.create(name)
    client.produce(name, plain(b"old"), acks=-1)
    old = client.call(3, 12, topics=[{"name": name}]).topics[0].topic_id
    wanted = {"topic_names": [name], "topics": [{"name": name}]}
    assert client.call(20, version, **wanted).responses[0].error_code == 0
    assert client.call(20, version, **wanted).responses[0].error_code == ErrorCode.unknown_topic_or_partition
    client.create(name)
    new = client.call(3, 12, topics=[{"name": name}]).topics[0].topic_id
    assert new != old
    assert client.fetch(name, 0, max_wait_ms=0).high_watermark == 0
    assert client.fetch("", 0, version=13, topic_id=old).error == ErrorCode.unknown_topic_id


def test_a_topic_is_deleted_by_its_id(client: WireClient) -> None:
    client.create("by-id")
    topic_id = client.call(3, 12, topics=[{"name": "by-id"}]).topics[0].topic_id
    gone = client.call(20, 6, topics=[{"name": None, "topic_id": topic_id}]).responses[0]
    assert (gone.error_code, gone.name) == (0, "by-id")
    again = client.call(20, 6, topics=[{"name": None, "topic_id": topic_id}]).responses[0]
    assert again.error_code == ErrorCode.unknown_topic_id


def test_the_brokers_own_topics_stay(client: WireClient) -> None:
    answer = client.call(20, 5, topic_names=["__consumer_offsets", "__transaction_state"])
    assert {r.error_code for r in answer.responses} == {ErrorCode.invalid_topic_exception}


@pytest.mark.parametrize("version", range(1, 5))
def test_settings_are_shown_with_their_defaults_and_where_they_come_from(
    client: WireClient, version: int
) -> None:
    name = f"configured-{version}"
    client.create(name, cleanup_policy="compact", retention_ms="1000")
    resource = {"resource_type": 2, "resource_name": name, "configuration_keys": None}
    result = client.call(32, version, resources=[resource], include_synonyms=True).results[0]
    configs = {c.name: c for c in result.configs}
    assert result.error_code == 0
    assert (configs["cleanup.policy"].value, configs["cleanup.policy"].config_source) == ("compact", 1)
    assert (configs["retention.ms"].value, configs["retention.ms"].config_source) == ("1000", 1)
    assert (configs["segment.bytes"].value, configs["segment.bytes"].config_source) == ("1073741824", 5)
    assert [s.value for s in configs["retention.ms"].synonyms] == ["1000", "604800000"]


def test_only_the_settings_asked_for_are_shown(client: WireClient, topic: str) -> None:
    resource = {"resource_type": 2, "resource_name": topic, "configuration_keys": ["max.message.bytes"]}
    result = client.call(32, 4, resources=[resource]).results[0]
    assert [(c.name, c.value) for c in result.configs] == [("max.message.bytes", "1048588")]


def test_settings_of_the_broker_and_of_what_is_not_there(client: WireClient) -> None:
    everything = {"configuration_keys": None}
    resources = [
        {"resource_type": 4, "resource_name": "1", **everything},
        {"resource_type": 4, "resource_name": "2", **everything},
        {"resource_type": 2, "resource_name": "no-such", **everything},
        {"resource_type": 9, "resource_name": "x", **everything},
    ]
    results = client.call(32, 4, resources=resources).results
    assert [r.error_code for r in results] == [
        0,
        ErrorCode.invalid_request,
        ErrorCode.unknown_topic_or_partition,
        ErrorCode.invalid_request,
    ]
    assert {"num.partitions", "message.max.bytes"} <= {c.name for c in results[0].configs}


def test_topics_ids_and_the_cluster_id_survive_a_restart_and_settings_make_topics(tmp_path) -> None:
    topics = {"logs": {"partitions": 2, "retention": "1h", "max_message": "2MiB"}}
    with LiveBroker(tmp_path / "data", topics=topics) as first, first.client() as client:
        before = client.call(3, 12, topics=None)
        assert first.stop() == 0
    topics["logs"]["partitions"] = 3
    topics["logs"]["retention"] = "2h"
    with LiveBroker(tmp_path / "data", topics=topics) as second, second.client() as client:
        after = client.call(3, 12, topics=None)
        assert after.cluster_id == before.cluster_id
        assert {t.name: t.topic_id for t in after.topics} == {t.name: t.topic_id for t in before.topics}
        assert {t.name: len(t.partitions) for t in after.topics}["logs"] == 3
        keys = ["retention.ms", "max.message.bytes"]
        resource = {"resource_type": 2, "resource_name": "logs", "configuration_keys": keys}
        shown = {c.name: c.value for c in client.call(32, 4, resources=[resource]).results[0].configs}
        assert shown == {"retention.ms": "7200000", "max.message.bytes": str(2 << 20)}
