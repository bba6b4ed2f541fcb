"""Produce by hand: the same bytes as kio's, and records that are never copied."""

import io
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kio.serial import entity_writer

from tailrace.broker.wire import produce
from tailrace.broker.wire.build import build
from tailrace.broker.wire.messages import decode_request, encode_request, request_type, response_type
from tailrace.broker.wire.produce import PartitionProduced, ProduceRequest, ProduceResponse
from tests.support.kafka_hot_samples import produce_response
from tests.support.kafka_python_codec import rewritten

VERSIONS = range(12)
IN_KIO = range(3, 12)


def a_request(transactional_id: str | None) -> ProduceRequest:
    topics = [("topic", [(0, b"x" * 300), (1, None), (2, b"")]), ("ä", [])]
    return ProduceRequest(transactional_id, -1, 1500, topics)


def kios(entity: type[Any], values: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    entity_writer(entity)(out, build(entity, values, lambda _: True))
    return out.getvalue()


@pytest.mark.parametrize("version", IN_KIO)
@pytest.mark.parametrize("transactional_id", [None, "tx"])
def test_requests_have_kios_bytes(version: int, transactional_id: str | None) -> None:
    ours = a_request(transactional_id)
    topics = [
        {"name": name, "partition_data": [{"index": i, "records": records} for i, records in partitions]}
        for name, partitions in ours.topics
    ]
    values = {"transactional_id": transactional_id, "acks": -1, "timeout": 1500, "topic_data": topics}
    assert b"".join(produce.encode(version, ours)) == kios(request_type(0, version), values)


@pytest.mark.parametrize("version", IN_KIO)
def test_responses_have_kios_bytes(version: int) -> None:
    ours = produce_response(random.Random(1))
    responses = [
        {"name": name, "partition_responses": [_kio_partition(p) for p in partitions]}
        for name, partitions in ours.topics
    ]
    values = {"responses": responses, "throttle_time": ours.throttle_ms}
    assert b"".join(produce.encode(version, ours)) == kios(response_type(0, version), values)


def _kio_partition(p: PartitionProduced) -> dict[str, Any]:
    append_time = None
    if p.log_append_time >= 0:
        append_time = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=p.log_append_time)
    errors = [{"batch_index": row, "batch_index_error_message": text} for row, text in p.record_errors]
    return {
        "index": p.partition,
        "error_code": p.error,
        "base_offset": p.base_offset,
        "log_append_time": append_time,
        "log_start_offset": p.log_start,
        "record_errors": errors,
        "error_message": p.error_message,
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_there_and_back_and_through_kafka_python(version: int) -> None:
    ours = a_request("tx" if version >= 3 else None)
    data = b"".join(produce.encode(version, ours))
    assert produce.decode_request(version, memoryview(data)) == ours
    assert rewritten("request", 0, version, data) == data
    answer = produce_response(random.Random(2))
    data = b"".join(produce.encode(version, answer))
    read = produce.decode_response(version, memoryview(data))
    assert b"".join(produce.encode(version, read)) == data
    assert rewritten("response", 0, version, data) == data
    if version >= 8:
        assert read == answer


@pytest.mark.parametrize("version", VERSIONS)
def test_records_are_never_copied(version: int) -> None:
    records = bytearray(100_000)
    pieces = encode_request(0, version, 1, "c", ProduceRequest(None, 1, 1, [("t", [(0, records)])]))
    assert any(piece is records for piece in pieces)
    frame = bytearray(b"".join(pieces))
    body = decode_request(memoryview(frame)[4:]).body
    view = body.topics[0][1][0][1]
    view[0] = 0xAB
    assert 0xAB in frame


@pytest.mark.parametrize("version", range(9, 12))
def test_tagged_fields_of_a_newer_broker_are_skipped(version: int) -> None:
    data = b"".join(produce.encode(version, ProduceResponse([("t", [PartitionProduced(0)])])))
    assert data.endswith(b"\0" * 7)
    tagged = data[:-7] + b"\x01\0\x09" + bytes(9) + b"\0" + bytes(4) + b"\x01\0\x02ab"
    assert produce.decode_response(version, memoryview(tagged)) == ProduceResponse(
        [("t", [PartitionProduced(0)])]
    )
