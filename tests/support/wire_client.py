"""A client of one socket and no manners: sends whole frames or raw bytes, pipelines, shuts down half of
itself.
"""

import socket
from types import TracebackType
from typing import Any

from tailrace.broker.wire.fetch import FetchPartition, FetchRequest, FetchTopic, PartitionFetched
from tailrace.broker.wire.messages import decode_response, encode_request, request
from tailrace.broker.wire.produce import PartitionProduced, ProduceRequest


class WireClient:
    """Blocking. A timeout is the deadline for each single receive."""

    def __init__(self, host: str, port: int, timeout: float = 20.0) -> None:
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._expected: list[tuple[int, int, int]] = []
        self._correlation = 0

    def send(self, key: int, version: int, body: Any) -> int:
        """Sends a request and answers its correlation id; receive() takes the answers in order."""
        self._correlation += 1
        frame = b"".join(bytes(p) for p in encode_request(key, version, self._correlation, "test", body))  # type: ignore[arg-type]
        self.socket.sendall(frame)
        self._expected.append((self._correlation, key, version))
        return self._correlation

    def receive(self) -> Any:
        """The body of the next answer, which must be that of the oldest request without one."""
        correlation, key, version = self._expected.pop(0)
        got, body = decode_response(key, version, self.receive_frame())
        assert got == correlation, f"answer {got} came where {correlation} was due"
        return body

    def receive_frame(self) -> bytes:
        return self._exactly(int.from_bytes(self._exactly(4), "big"))

    def _exactly(self, size: int) -> bytes:
        data = bytearray(size)
        view, filled = memoryview(data), 0
        while filled < size:
            count = self.socket.recv_into(view[filled:])
            if count == 0:
                raise EOFError(f"the broker closed after {filled} of {size} bytes")
            filled += count
        return bytes(data)

    def closed_by_peer(self) -> bool:
        """True when the broker ends the connection (within the timeout) without another byte."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def call(self, key: int, version: int, /, **values: Any) -> Any:
        """One request of plain values, and its answer."""
        self.send(key, version, request(key, version, **values))
        return self.receive()

    def produce(
        self, topic: str, batch: bytes | bytearray, *, partition: int = 0, acks: int = 1, version: int = 9
    ) -> PartitionProduced:
        body = ProduceRequest(None, acks, 5000, [(topic, [(partition, batch)])])
        self.send(0, version, body)
        produced: PartitionProduced = self.receive().topics[0][1][0]
        return produced

    def send_fetch(
        self, topic: str, offset: int, *, version: int = 11, partition: int = 0, **more: Any
    ) -> None:
        max_bytes = more.pop("partition_bytes", 1 << 20)
        leader_epoch = more.pop("leader_epoch", -1)
        topic_id = more.pop("topic_id", None)
        wanted = FetchPartition(partition, offset, max_bytes, leader_epoch)
        self.send(1, version, FetchRequest([FetchTopic(topic, topic_id, [wanted])], **more))

    def fetch(self, topic: str, offset: int, **more: Any) -> PartitionFetched:
        self.send_fetch(topic, offset, **more)
        fetched: PartitionFetched = self.receive().topics[0].partitions[0]
        return fetched

    def create(self, topic: str, partitions: int = 1, **configs: str) -> None:
        """Creates a topic; `retention_ms="5"` is retention.ms."""
        settings = [{"name": name.replace("_", "."), "value": value} for name, value in configs.items()]
        body = {"name": topic, "num_partitions": partitions, "replication_factor": 1, "configs": settings}
        answer = self.call(19, 7, topics=[body])
        assert answer.topics[0].error_code == 0, answer

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> "WireClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
