"""Fetch by hand: the same bytes as kio's, and records that are never copied."""

import io
import random
import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from kio.serial import entity_writer

from tailrace.broker.wire import fetch
from tailrace.broker.wire.build import build
from tailrace.broker.wire.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionFetched,
    TopicFetched,
)
from tailrace.broker.wire.messages import encode_response, request_type, response_type
from tests.support.kafka_hot_samples import fetch_response
from tests.support.kafka_python_codec import rewritten

VERSIONS = range(4, 18)
ID = uuid.UUID(int=0xABCDEF << 64)


def a_request() -> FetchRequest:
    wanted = [FetchPartition(0, 7, 99, 3, 2, 1), FetchPartition(2**31 - 1, 2**63 - 1)]
    topics = [FetchTopic("topic", ID, wanted), FetchTopic("ä", None, [])]
    return FetchRequest(topics, 500, 1, 1 << 20, 1, 0, -1, -1, "rack")


def kios(entity: type[Any], values: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    entity_writer(entity)(out, build(entity, values, lambda _: True))
    return out.getvalue()


@pytest.mark.parametrize("version", VERSIONS)
def test_requests_have_kios_bytes(version: int) -> None:
    ours = a_request()
    topics = [
        {
            "topic": t.name,
            "topic_id": t.topic_id,
            "partitions": [
                {
                    "partition": p.partition,
                    "fetch_offset": p.offset,
                    "partition_max_bytes": p.max_bytes,
                    "current_leader_epoch": p.leader_epoch,
                    "last_fetched_epoch": p.last_fetched_epoch,
                    "log_start_offset": p.log_start,
                }
                for p in t.partitions
            ],
        }
        for t in ours.topics
    ]
    values = {
        "replica_id": -1,
        "max_wait": ours.max_wait_ms,
        "min_bytes": ours.min_bytes,
        "max_bytes": ours.max_bytes,
        "isolation_level": ours.isolation_level,
        "session_id": ours.session_id,
        "session_epoch": ours.session_epoch,
        "topics": topics,
        "forgotten_topics_data": [],
        "rack_id": ours.rack_id,
    }
    assert b"".join(fetch.encode(version, ours)) == kios(request_type(1, version), values)


@pytest.mark.parametrize("version", VERSIONS)
def test_responses_have_kios_bytes(version: int) -> None:
    ours = fetch_response(random.Random(1))
    topics = [
        {"topic": t.name, "topic_id": t.topic_id, "partitions": [_kio_partition(p) for p in t.partitions]}
        for t in ours.topics
    ]
    values = {
        "throttle_time": ours.throttle_ms,
        "error_code": ours.error,
        "session_id": ours.session_id,
        "responses": topics,
    }
    assert b"".join(fetch.encode(version, ours)) == kios(response_type(1, version), values)


def _kio_partition(p: PartitionFetched) -> dict[str, Any]:
    aborted = None
    if p.aborted is not None:
        aborted = [{"producer_id": a.producer_id, "first_offset": a.first_offset} for a in p.aborted]
    return {
        "partition_index": p.partition,
        "error_code": p.error,
        "high_watermark": p.high_watermark,
        "last_stable_offset": p.last_stable_offset,
        "log_start_offset": p.log_start,
        "aborted_transactions": aborted,
        "preferred_read_replica": p.preferred_read_replica,
        "records": p.records,
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_there_and_back_and_through_kafka_python(version: int) -> None:
    data = b"".join(fetch.encode(version, a_request()))
    read = fetch.decode_request(version, memoryview(data))
    assert b"".join(fetch.encode(version, read)) == data
    assert rewritten("request", 1, version, data) == data
    if version >= 9:
        assert read.topics[0].partitions[1] == a_request().topics[0].partitions[1]
        assert (read.rack_id == "rack") == (version >= 11)
    data = b"".join(fetch.encode(version, fetch_response(random.Random(2))))
    answer = fetch.decode_response(version, memoryview(data))
    assert b"".join(fetch.encode(version, answer)) == data
    assert rewritten("response", 1, version, data) == data


@pytest.mark.parametrize("version", range(7, 18))
def test_forgotten_topics_and_a_followers_tags_are_skipped(version: int) -> None:
    entity = request_type(1, version)
    forgotten = [{"topic": "t", "topic_id": ID, "partitions": [1, 2]}]
    values: dict[str, Any] = {"forgotten_topics_data": forgotten, "cluster_id": "abc", "max_bytes": 5}
    if version >= 15:
        values["replica_state"] = {"replica_id": 4, "replica_epoch": 9}
    read = fetch.decode_request(version, memoryview(kios(entity, values)))
    assert (read.topics, read.max_bytes) == ([], 5)


@dataclass
class Stretch:
    length: int


@pytest.mark.parametrize("version", VERSIONS)
def test_file_ranges_go_out_as_they_are_and_count_in_the_size(version: int) -> None:
    stretch = Stretch(70_000)
    topic = TopicFetched("t", ID, [PartitionFetched(0, records=stretch), PartitionFetched(1)])
    pieces = encode_response(1, version, 5, FetchResponse([topic]))
    at = next(i for i, piece in enumerate(pieces) if piece is stretch)
    pieces[at] = bytes(70_000)
    frame = b"".join(pieces)
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4


def test_decoded_records_are_views_into_the_frame() -> None:
    frame = b"".join(fetch.encode(11, fetch_response(random.Random(3))))
    records = fetch.decode_response(11, memoryview(frame)).topics[0].partitions[0].records
    assert isinstance(records, memoryview)
    assert records.obj is frame
