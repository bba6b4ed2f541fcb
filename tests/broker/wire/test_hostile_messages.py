"""Whatever bytes come, Corrupt or UnsupportedVersion come out, and no memory that the bytes do not pay
for.
"""

import random
import resource
from collections.abc import Callable

import pytest

from tailrace.broker.wire.fetch import FetchPartition, FetchRequest, FetchTopic
from tailrace.broker.wire.messages import (
    APIS,
    FETCH,
    PRODUCE,
    UnsupportedVersion,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    request_type,
    response_type,
)
from tailrace.broker.wire.produce import ProduceRequest
from tailrace.errors import Corrupt
from tests.support.kafka_hot_samples import fetch_response, produce_response
from tests.support.kafka_samples import sample

HEADER = (3).to_bytes(2, "big") + (12).to_bytes(2, "big") + (1).to_bytes(4, "big") + b"\xff\xff\0"


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def requests(rng: random.Random) -> list[bytes]:
    frames = []
    for key, api in APIS.items():
        for version in range(api.lowest, api.highest + 1):
            if key == PRODUCE:
                topics = [("topic", [(0, rng.randbytes(90)), (1, None)]), ("ä", [])]
                body = ProduceRequest("tx" if version >= 3 else None, -1, 1500, topics)
            elif key == FETCH:
                body = FetchRequest([FetchTopic("topic", None, [FetchPartition(0, 7), FetchPartition(1, 9)])])
            else:
                body = sample(request_type(key, version), rng)
            frames.append(b"".join(encode_request(key, version, 7, "client", body))[4:])
    return frames


def responses(rng: random.Random) -> list[tuple[int, int, bytes]]:
    frames = []
    for key, api in APIS.items():
        for version in range(api.lowest, api.highest + 1):
            if key == PRODUCE:
                body = produce_response(rng)
            elif key == FETCH:
                body = fetch_response(rng)
            else:
                body = sample(response_type(key, version), rng)
            frames.append((key, version, b"".join(encode_response(key, version, 7, body))[4:]))
    return frames


def mutate(frame: bytes, rng: random.Random) -> bytes:
    data = bytearray(frame)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(data)) if data else 0
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0"))
        elif kind == 2:
            data[at : at + 1] = b"\xff\xff\xff\xff\x0f"
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            data[at:at] = rng.randbytes(rng.randrange(9))
        else:
            del data[at : at + rng.randrange(9)]
    return bytes(data)


def outcome(read: Callable[[], object]) -> str:
    try:
        read()
    except (Corrupt, UnsupportedVersion) as error:
        return type(error).__name__
    return "read"


def test_ten_thousand_mutated_requests_end_in_an_answer_or_a_clean_refusal() -> None:
    rng = random.Random(20_260)
    frames = requests(rng)
    for frame in frames:
        decode_request(memoryview(frame))
    before, outcomes = peak_kib(), set()
    for number in range(10_000):
        frame = mutate(frames[number % len(frames)], rng)
        outcomes.add(outcome(lambda frame=frame: decode_request(memoryview(frame))))
    assert outcomes == {"read", "Corrupt", "UnsupportedVersion"}
    assert peak_kib() - before < 10 * 1024


def test_ten_thousand_mutated_responses_end_in_an_answer_or_a_clean_refusal() -> None:
    rng = random.Random(7_919)
    frames = responses(rng)
    for key, version, frame in frames:
        decode_response(key, version, frame)
    before, outcomes = peak_kib(), set()
    for number in range(10_000):
        key, version, frame = frames[number % len(frames)]
        mutated = mutate(frame, rng)
        outcomes.add(outcome(lambda k=key, v=version, m=mutated: decode_response(k, v, m)))
    assert outcomes == {"read", "Corrupt"}
    assert peak_kib() - before < 10 * 1024


@pytest.mark.parametrize(
    "count", [b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x80\x01"]
)
def test_an_enormous_compact_count_is_refused_before_anything_is_allocated(count: bytes) -> None:
    before = peak_kib()
    with pytest.raises(Corrupt):
        decode_request(memoryview(HEADER + count + b"\0" * 100))
    with pytest.raises(Corrupt):
        decode_request(memoryview(HEADER[:-1] + count + b"\0" * 100))
    assert peak_kib() - before < 4 * 1024


def test_many_tiny_elements_are_bounded_by_the_budget_and_not_by_the_frame() -> None:
    topics = 3_000_000
    body = topics.to_bytes(4, "big") + b"\0\0" * topics
    frame = (3).to_bytes(2, "big") + (1).to_bytes(2, "big") + bytes(4) + b"\xff\xff" + body
    before = peak_kib()
    with pytest.raises(Corrupt, match="more array elements"):
        decode_request(memoryview(frame))
    assert peak_kib() - before < 4 * 1024


def test_many_empty_tagged_fields_are_bounded_too() -> None:
    tags = b"\x50\0" * 1_000_000
    with pytest.raises(Corrupt, match="more array elements"):
        decode_request(memoryview(HEADER[:-1] + b"\xc0\x84\x3d" + tags + b"\x01\0\0\0"))


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(Corrupt):
        decode_request(memoryview(HEADER[:-3] + b"\0\x02\xff\xfe\0" + b"\0\0\0\0"))
    with pytest.raises(Corrupt):
        decode_request(memoryview(HEADER + b"\x02" + bytes(16) + b"\x03\xff\xfe\0" + b"\0\0\0"))
