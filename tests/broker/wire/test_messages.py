"""Every API key and version: our bytes are kio's and kafka-python's, there and back."""

import io
import random
from dataclasses import replace

import pytest
from kio.serial import entity_reader, entity_writer

from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.messages import (
    API_VERSIONS,
    APIS,
    FETCH,
    PRODUCE,
    UnsupportedVersion,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    request,
    request_type,
    response,
    response_type,
)
from tailrace.errors import Corrupt
from tests.support.kafka_python_codec import rewritten
from tests.support.kafka_samples import sample

VERSIONS = [
    pytest.param(key, version, id=f"{api.name}-{version}")
    for key, api in APIS.items()
    if key not in (PRODUCE, FETCH)
    for version in range(api.lowest, api.highest + 1)
]
SEEDS = range(6)


@pytest.mark.parametrize(("key", "version"), VERSIONS)
def test_requests_read_as_kio_wrote_them_and_as_kafka_python_reads_them(key: int, version: int) -> None:
    for seed in SEEDS:
        body = sample(request_type(key, version), random.Random(seed))
        frame = b"".join(encode_request(key, version, seed, "client-ä", body))
        read = decode_request(memoryview(frame)[4:])
        assert (read.api_key, read.api_version, read.correlation_id) == (key, version, seed)
        assert read.client_id == "client-ä"
        assert read.body == body
        data = frame[14 + len("client-ä".encode()) + (version >= APIS[key].flexible) :]
        assert rewritten("request", key, version, data) == data


@pytest.mark.parametrize(("key", "version"), VERSIONS)
def test_responses_read_as_kio_wrote_them_and_as_kafka_python_reads_them(key: int, version: int) -> None:
    for seed in SEEDS:
        body = sample(response_type(key, version), random.Random(seed))
        if key == API_VERSIONS and body.error_code == ErrorCode.unsupported_version:
            continue
        frame = b"".join(encode_response(key, version, seed, body))
        assert int.from_bytes(frame[:4], "big") == len(frame) - 4
        assert decode_response(key, version, frame[4:]) == (seed, body)
        if key == API_VERSIONS:  # kafka-python reads one with an error as version 0
            frame = b"".join(encode_response(key, version, seed, replace(body, error_code=ErrorCode.none)))
        data = frame[8 + (version >= APIS[key].flexible and key != API_VERSIONS) :]
        assert rewritten("response", key, version, data) == data


@pytest.mark.parametrize(("key", "version"), VERSIONS)
def test_the_reader_agrees_with_kios_reader(key: int, version: int) -> None:
    body = sample(request_type(key, version), random.Random(17))
    out = io.BytesIO()
    entity_writer(request_type(key, version))(out, body)
    theirs, _ = entity_reader(request_type(key, version))(out.getvalue(), 0)
    assert theirs == body


def test_a_body_of_plain_values_fits_every_version() -> None:
    for version in range(13):
        body = response(
            3,
            version,
            throttle_time=7,
            cluster_id="abc",
            controller_id=1,
            brokers=[{"node_id": 1, "host": "h", "port": 9}],
            topics=[{"name": "t", "error_code": 3, "partitions": [{"partition_index": 0, "isr_nodes": [1]}]}],
        )
        assert body.topics[0].partitions[0].isr_nodes == (1,)
        assert body.topics[0].error_code.name == "unknown_topic_or_partition"
        assert hasattr(body, "cluster_id") == (version >= 2)
        assert decode_response(3, version, b"".join(encode_response(3, version, 1, body))[4:]) == (1, body)


def test_a_field_that_no_version_has_is_a_mistake() -> None:
    with pytest.raises(TypeError, match=r"topics\.nam in any version"):
        response(3, 1, topics=[{"nam": "t"}])


def test_fields_not_given_take_the_schemas_defaults() -> None:
    body = request(22, 4, transactional_id="t", transaction_timeout=60_000)
    assert (body.producer_id, body.producer_epoch) == (-1, -1)
    assert body.transaction_timeout.total_seconds() == 60


def test_an_unknown_key_or_version_says_which_and_keeps_the_correlation_id() -> None:
    for key, version in ((3, 99), (3, -1), (999, 0), (18, 5)):
        header = key.to_bytes(2, "big") + version.to_bytes(2, "big", signed=True) + (77).to_bytes(4, "big")
        with pytest.raises(UnsupportedVersion) as error:
            decode_request(memoryview(header + b"\xff\xff"))
        assert (error.value.key, error.value.version, error.value.correlation_id) == (key, version, 77)


def test_a_broker_too_old_for_our_api_versions_answers_in_version_0() -> None:
    body = response(
        18, 0, error_code=ErrorCode.unsupported_version, api_keys=[{"api_key": 18, "max_version": 2}]
    )
    frame = b"".join(encode_response(18, 0, 4, body))[4:]
    assert decode_response(18, 3, frame) == (4, body)


def test_unknown_error_codes_stay_numbers() -> None:
    body = response(12, 0, error_code=0)
    frame = bytearray(b"".join(encode_response(12, 0, 5, body))[4:])
    frame[4:6] = (31_000).to_bytes(2, "big")
    assert decode_response(12, 0, frame)[1].error_code == 31_000


def test_unknown_tagged_fields_are_skipped_in_header_and_body() -> None:
    tags = b"\x02\x50\x03abc\xd1\x0f\x00"
    header = (3).to_bytes(2, "big") + (12).to_bytes(2, "big") + (1).to_bytes(4, "big") + b"\xff\xff" + tags
    read = decode_request(memoryview(header + b"\x00" + b"\x01\x00" + tags))
    assert read.body.topics is None
    assert read.body.allow_auto_topic_creation is True


def test_a_known_tagged_field_that_does_not_fill_its_size_is_refused() -> None:
    header = (18).to_bytes(4, "big") + bytes(4)
    body = b"".join(encode_response(18, 3, 1, response(18, 3, finalized_features_epoch=9)))[8:]
    assert body.endswith(b"\x01\x01\x08" + (9).to_bytes(8, "big"))
    with pytest.raises(Corrupt):
        decode_response(18, 3, header[4:] + body.replace(b"\x01\x01\x08", b"\x01\x01\x09") + b"\0")


@pytest.mark.parametrize(("key", "version"), VERSIONS)
def test_trailing_and_missing_bytes_are_refused(key: int, version: int) -> None:
    body = sample(request_type(key, version), random.Random(3))
    frame = b"".join(encode_request(key, version, 1, None, body))[4:]
    with pytest.raises(Corrupt):
        decode_request(memoryview(frame + b"\0"))
    for end in range(0, len(frame), max(1, len(frame) // 50)):
        with pytest.raises(Corrupt):
            decode_request(memoryview(frame[:end]))
