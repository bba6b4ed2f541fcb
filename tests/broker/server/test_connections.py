"""What a client may do to its connection, and what that does to nobody else."""

import random
import socket
import struct

import pytest

from tailrace.broker.wire.fetch import FetchPartition, FetchRequest, FetchTopic
from tailrace.broker.wire.messages import APIS, encode_request, request, request_type
from tailrace.broker.wire.produce import ProduceRequest
from tests.support.batches import plain
from tests.support.kafka_samples import sample
from tests.support.live_broker import LiveBroker
from tests.support.wire_client import WireClient


def still_serves(broker: LiveBroker) -> bool:
    with broker.client() as client:
        return client.call(18, 0).error_code == 0


def frame_of(key: int, version: int, body: object) -> bytes:
    return b"".join(bytes(p) for p in encode_request(key, version, 1, "c", body))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
        b"\xff" * 64,
        bytes(64),
        b"\x00\x00\x00\x08\x00\x03\x00\x63\x00\x00\x00\x01",
        b"\x00\x00\x00\x0a\x03\xe7\x00\x00\x00\x00\x00\x01\xff\xff",
        b"\x00\x00\x00\x0c\x00\x03\x00\x0c\x00\x00\x00\x01\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff\x00\x00\x00\x09",
    ],
    ids=["http", "tls", "ones", "zeros", "version", "key", "body", "huge"],
)
def test_what_is_no_request_ends_the_connection_and_nothing_else(broker: LiveBroker, data: bytes) -> None:
    with broker.client() as client:
        client.socket.sendall(data)
        assert client.closed_by_peer()
    assert still_serves(broker)


def test_answers_before_a_bad_request_still_come(broker: LiveBroker) -> None:
    with broker.client() as client:
        client.send(18, 0, request(18, 0))
        client.socket.sendall(b"\xff" * 32)
        assert client.receive().error_code == 0
        assert client.closed_by_peer()


def test_a_thousand_mutated_requests_leave_the_broker_serving(broker: LiveBroker) -> None:
    rng = random.Random(4_711)
    keys = [(key, v) for key, api in APIS.items() if key > 3 for v in range(api.lowest, api.highest + 1)]
    topics = [("hostile", [(0, plain(b"abc"))])]
    for _ in range(1000):
        key, version = rng.choice([*keys, (0, 9), (1, 12)])
        if key == 0:
            body: object = ProduceRequest(None, 1, 10, topics)
        elif key == 1:
            body = FetchRequest([FetchTopic("hostile", None, [FetchPartition(0, 0)])], max_wait_ms=0)
        else:
            body = sample(request_type(key, version), rng)
        data = bytearray(frame_of(key, version, body))
        for _ in range(rng.choice((1, 2, 8))):
            data[rng.randrange(4, len(data))] = rng.randrange(256)
        data[:4] = (len(data) - 4).to_bytes(4, "big")
        with broker.client() as client:
            client.socket.sendall(data)
            client.socket.shutdown(socket.SHUT_WR)
    assert still_serves(broker)
    assert broker.process.poll() is None


def test_requests_arriving_byte_by_byte_are_answered(broker: LiveBroker) -> None:
    with broker.client() as client:
        for byte in (
            frame_of(18, 3, request(18, 3, client_software_name="a", client_software_version="1")) * 3
        ):
            client.socket.sendall(bytes([byte]))
        for _ in range(3):
            assert len(client.receive_frame()) > 20


def test_a_half_closed_connection_still_gets_every_answer_that_is_due(broker: LiveBroker) -> None:
    with broker.client() as client:
        client.create("half")
        row = plain(b"r" * 500_000)
        for _ in range(6):
            client.produce("half", row)
        client.send_fetch("half", 0, partition_bytes=8 << 20, max_wait_ms=0)
        client.send(18, 0, request(18, 0))
        client.send_fetch("half", 6, max_wait_ms=300)
        client.socket.shutdown(socket.SHUT_WR)
        assert len(client.receive().topics[0].partitions[0].records) > 3_000_000
        assert client.receive().error_code == 0
        assert len(client.receive().topics[0].partitions[0].records) == 0
        assert client.closed_by_peer()


def test_a_client_that_resets_in_the_middle_of_a_big_answer_harms_nobody(broker: LiveBroker) -> None:
    with broker.client() as client:
        client.create("reset")
        for _ in range(10):
            client.produce("reset", plain(b"r" * 1_000_000))
    for taken in (1, 1000, 1_000_000):
        with broker.client() as client:
            client.send_fetch("reset", 0, partition_bytes=10 << 20, max_wait_ms=0)
            client.socket.recv(taken, socket.MSG_WAITALL)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert still_serves(broker)


def test_hundreds_of_pipelined_requests_are_answered_in_order(broker: LiveBroker) -> None:
    with broker.client() as client:
        client.create("pipe")
        batches = 700
        body = [ProduceRequest(None, -1, 5000, [("pipe", [(0, plain(b"%d" % n))])]) for n in range(batches)]
        for produced in body:
            client.send(0, 9, produced)
        offsets = [client.receive().topics[0][1][0].base_offset for _ in range(batches)]
        assert offsets == list(range(batches))


def test_a_client_that_never_reads_is_not_served_without_end(tmp_path) -> None:
    with LiveBroker(tmp_path / "data") as broker, broker.client() as client:
        for n in range(40):
            client.create(f"topic-with-a-long-name-{n:0200}", 4)
        before = broker.anonymous_kib()
        ask = frame_of(3, 1, request(3, 1, topics=None))
        client.socket.settimeout(0.5)
        sent = 0
        try:
            while sent < 64 << 20:
                sent += client.socket.send(ask * 1000)
        except TimeoutError:
            pass
        assert sent < 64 << 20
        assert broker.anonymous_kib() - before < 16 * 1024
        assert still_serves(broker)


def test_connections_beyond_the_limit_are_closed_and_those_within_stay(tmp_path) -> None:
    with LiveBroker(tmp_path / "data", max_connections=3) as broker:
        clients = [broker.client() for _ in range(3)]
        for client in clients:
            assert client.call(18, 0).error_code == 0
        with broker.client() as refused:
            assert refused.closed_by_peer()
        assert clients[0].call(18, 0).error_code == 0
        clients.pop().close()
        while True:
            with broker.client() as client:
                client.send(18, 0, request(18, 0))
                try:
                    assert client.receive().error_code == 0
                    break
                except (EOFError, ConnectionResetError):
                    continue
        for client in clients:
            client.close()


def test_a_request_above_max_request_is_refused_before_it_is_read(tmp_path) -> None:
    with LiveBroker(tmp_path / "data", max_request="1MiB") as broker:
        with broker.client() as client:
            client.create("t")
            assert client.produce("t", plain(b"x" * 900_000)).error == 0
            client.socket.sendall((1 << 20 | 1).to_bytes(4, "big") + b"\0\0\0\x09")
            assert client.closed_by_peer()
        assert "the largest is 1048576" in broker.log()


def test_many_half_sent_large_requests_do_not_take_the_brokers_memory(tmp_path) -> None:
    with LiveBroker(tmp_path / "data") as broker:
        before = broker.anonymous_kib()
        size = 30 << 20
        clients: list[WireClient] = []
        for _ in range(12):
            client = broker.client(timeout=0.1)
            clients.append(client)
            client.socket.sendall(size.to_bytes(4, "big") + b"\0\0\0\x09")
            chunk = bytes(1 << 20)
            try:
                for _ in range(28):
                    client.socket.sendall(chunk)
            except TimeoutError:
                pass
        assert broker.anonymous_kib() - before < 60 * 1024
        assert still_serves(broker)
        for client in clients:
            client.close()
        with broker.client() as client:
            client.create("t")
            for _ in range(5):
                assert client.produce("t", plain(b"x" * 1_000_000)).error == 0
