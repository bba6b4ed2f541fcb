import struct
import threading

import pytest

from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.connection import MAX_RESPONSE, Connection
from tailrace.broker.client.errors import Disconnected, Refused
from tailrace.broker.client.versions import HEARTBEAT, METADATA, Versions, negotiate
from tailrace.broker.wire import messages
from tailrace.clock import SystemClock
from tailrace.errors import Corrupt
from tests.support.scripted_broker import Body, Cut, Raw, ScriptedCluster, Silence


def connect(scripted: ScriptedCluster, timeout: float = 5.0) -> Connection:
    broker = scripted.brokers[0]
    return Connection("127.0.0.1", broker.port, client_id="test", timeout=timeout, clock=SystemClock())


def test_pipelined_requests_are_answered_in_order(scripted):
    connection = connect(scripted)
    ids = [connection.send(METADATA, connection.request(METADATA, topics=None)) for _ in range(5)]
    assert connection.unanswered == 5
    assert [connection.receive(5)[0] for _ in ids] == ids


def test_an_answer_that_comes_in_pieces_survives_a_receive_that_timed_out(scripted):
    go_on = threading.Event()
    connection = connect(scripted)
    (stream,) = scripted.brokers[0].connections()

    def in_two_pieces(request):
        frame = b"".join(
            messages.encode_response(
                3, request.api_version, request.correlation_id, scripted.plausible(request)
            )
        )
        stream.sendall(frame[:9])
        go_on.wait(10)
        return Raw(frame[9:])

    scripted.next_time(METADATA, in_two_pieces)
    connection.send(METADATA, connection.request(METADATA, topics=None))
    scripted.wait_for(METADATA, 1)
    while connection.receive(0.01) is not None:
        pytest.fail("half an answer was taken for a whole one")
    go_on.set()
    assert connection.receive(5)[1].cluster_id == "scripted"


def test_an_answer_that_never_comes_is_a_lost_connection(scripted):
    connection = connect(scripted, timeout=0.2)
    scripted.next_time(METADATA, lambda _: Silence())
    with pytest.raises(Disconnected, match="did not answer metadata in time"):
        connection.call(METADATA, topics=None)
    assert not connection.usable


@pytest.mark.parametrize("keep", [0, 3, 4, 20])
def test_a_connection_cut_within_an_answer_is_lost(scripted, keep):
    connection = connect(scripted)
    scripted.next_time(METADATA, lambda _: Cut(keep))
    with pytest.raises(Disconnected):
        connection.call(METADATA, topics=None)
    with pytest.raises(Disconnected):
        connection.call(METADATA, topics=None)


@pytest.mark.parametrize("size", [-1, 0, 3, MAX_RESPONSE + 1, 2**31 - 1])
def test_an_absurd_size_is_refused_before_memory_is_taken(scripted, size):
    connection = connect(scripted)
    scripted.next_time(METADATA, lambda _: Raw(struct.pack(">i", size)))
    with pytest.raises(Corrupt, match="announces an answer of"):
        connection.call(METADATA, topics=None)
    assert not connection.usable


def test_a_host_that_cannot_be_a_name_is_no_connection():
    with pytest.raises(Disconnected, match=r"cannot connect to x\.\.y:1"):
        Connection("x..y", 1, client_id="test", timeout=1, clock=SystemClock())


def test_a_port_of_something_else_is_named(scripted):
    scripted.next_time(18, lambda _: Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    with pytest.raises(Corrupt, match="is this the plaintext port of a Kafka broker"):
        connect(scripted)


def test_an_answer_to_another_request_is_refused(scripted):
    connection = connect(scripted)
    scripted.next_time(
        METADATA, lambda request: Body(scripted.plausible(request), request.correlation_id + 1)
    )
    with pytest.raises(Corrupt, match=r"answers request 2 where 1 \(metadata\) was due"):
        connection.call(METADATA, topics=None)
    assert not connection.usable


@pytest.mark.parametrize(
    "junk",
    [b"\xff\xff\xff\xff\x0f" * 4, b"\x00" * 3, b"\x80" * 40, b"\x00\x00\x00\x00\xff\xff\xff\xff\x0f"],
    ids=["huge counts", "too short", "endless varint", "huge broker count"],
)
def test_a_body_that_cannot_be_right_is_refused(scripted, junk):
    connection = connect(scripted)

    def lie(request):
        payload = struct.pack(">i", request.correlation_id) + junk
        return Raw(struct.pack(">i", len(payload)) + payload)

    scripted.next_time(METADATA, lie)
    with pytest.raises(Corrupt):
        connection.call(METADATA, topics=None)
    assert not connection.usable


def test_a_broker_that_knows_only_old_api_versions_is_asked_again(scripted):
    def too_new(request):
        old = b"".join(
            messages.encode_response(
                18, 0, request.correlation_id, messages.response(18, 0, error_code=35, api_keys=[])
            )
        )
        return Raw(old)

    scripted.next_time(18, too_new)
    connection = connect(scripted)
    assert [type(body).__version__ for body in scripted.requests(18)] == [3, 0]
    assert connection.call(METADATA, topics=None).cluster_id == "scripted"


def test_the_highest_version_of_both_is_used(scripted):
    scripted.versions[METADATA] = (0, 7)
    connection = connect(scripted)
    assert connection.version(METADATA) == 7
    connection.call(METADATA, topics=None)
    assert type(scripted.requests(METADATA)[0]).__version__ == 7


def test_a_broker_without_a_common_version_is_named(scripted):
    scripted.versions[METADATA] = (13, 14)
    scripted.versions.pop(HEARTBEAT)
    connection = connect(scripted)
    with pytest.raises(Refused, match="metadata: the broker speaks versions 13-14, this client 4-12"):
        connection.version(METADATA)
    with pytest.raises(Refused, match=r"the broker has no heartbeat \(API key 12\)"):
        connection.version(HEARTBEAT)


def test_negotiation_takes_the_highest_common_version():
    assert negotiate({METADATA: Versions(0, 5)}, METADATA) == 5
    assert negotiate({METADATA: Versions(0, 99)}, METADATA) == 12


def test_an_idle_connection_that_the_broker_closed_is_made_anew(scripted):
    with_idle = Cluster(scripted.bootstrap, timeout=5)
    with_idle.topics(())
    scripted.brokers[0].cut()
    assert with_idle.topics(()) == {}


def test_a_request_larger_than_the_socket_buffers_arrives_whole(scripted):
    connection = connect(scripted)
    names = [f"topic-{number:06}" * 10 for number in range(100_000)]
    connection.call(METADATA, topics=[{"topic_id": None, "name": name} for name in names])
    assert [topic.name for topic in scripted.requests(METADATA)[0].topics] == names
