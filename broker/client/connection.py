"""One TCP connection to one broker: requests in order, answers in the same order, each within a deadline and
a size.

It belongs to one thread at a time. After any fault it is closed, and every later use is Disconnected.
"""

import select
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tailrace.broker.client.errors import Disconnected, raise_for
from tailrace.broker.client.versions import API_VERSIONS, Versions, negotiate
from tailrace.broker.wire import messages
from tailrace.broker.wire.errors import ErrorCode
from tailrace.clock import Clock
from tailrace.errors import Corrupt, TailraceError

MAX_RESPONSE = 128 * 2**20
"""Bytes of the largest answer taken: a fetch's first batch may be larger than what was asked for (KIP-74)."""
_KEPT_BUFFER = 32 * 2**20
_BUFFER_STEP = 1 << 18
_IOV_MAX = 512


@dataclass(frozen=True, slots=True)
class _Expected:
    """An answer that has to come."""

    key: int
    version: int
    correlation_id: int
    deadline: float


class Connection:
    """Connects and negotiates versions at once; Disconnected when that fails.

    timeout  seconds that connecting, and each answer, may take

    A fetch's records are views into one buffer that is used again: they hold until the next receive().
    """

    def __init__(self, host: str, port: int, *, client_id: str, timeout: float, clock: Clock) -> None:
        self.address = f"{host}:{port}"
        self._client_id = client_id
        self._timeout = timeout
        self._clock = clock
        self._expected: deque[_Expected] = deque()
        self._next_id = 0
        self._size = bytearray(4)
        self._buffer = bytearray()
        self._have = 0
        self._versions: dict[int, Versions] = {}
        self._socket: socket.socket | None = None
        try:
            self._socket = socket.create_connection((host, port), timeout=timeout)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket.setblocking(False)
        except (OSError, UnicodeError) as error:
            # UnicodeError: a host that cannot be a name.
            raise Disconnected(f"cannot connect to {self.address}: {error}") from error
        self._ask_versions()

    def version(self, key: int) -> int:
        """The version used for an API key here; Refused when the broker and this client have none
        together."""
        return negotiate(self._versions, key)

    @property
    def unanswered(self) -> int:
        return len(self._expected)

    @property
    def closed(self) -> bool:
        return self._socket is None

    @property
    def usable(self) -> bool:
        """False once closed, and when the broker has closed an idle connection."""
        return self._socket is not None and (bool(self._expected) or not wait_readable([self], 0))

    def fileno(self) -> int:
        return self._open.fileno()

    def request(self, key: int, /, **fields: Any) -> Any:
        """A body of the negotiated version, of plain values; fields that the version lacks are dropped."""
        return messages.request(key, self.version(key), **fields)

    def send(self, key: int, body: Any, *, timeout: float | None = None, answered: bool = True) -> int:
        """Sends a request of the negotiated version; its correlation id. `timeout` is for the answer."""
        version = self.version(key)
        return self._send(key, version, body, self._timeout if timeout is None else timeout, answered)

    def receive(self, timeout: float) -> tuple[int, Any] | None:
        """(correlation id, body) of the oldest unanswered request; None when it is not here, whole, within
        `timeout` s.

        Disconnected when the connection ends or the answer's own deadline has passed, Corrupt when it cannot
        be right.
        """
        expected = self._expected[0]
        with self._closed_on_fault():
            frame = self._read_frame(min(self._clock.monotonic() + timeout, expected.deadline))
            if frame is None:
                if self._clock.monotonic() >= expected.deadline:
                    raise Disconnected(
                        f"{self.address} did not answer {messages.APIS[expected.key].name} in time"
                    )
                return None
            self._expected.popleft()
            return expected.correlation_id, self._decode(expected, frame)

    def call(
        self,
        api: int,
        /,
        *,
        within: float | None = None,
        sent: Callable[[], None] | None = None,
        **fields: Any,
    ) -> Any:
        """One request and its answer's body, with nothing else unanswered. `sent` is called between the two."""
        self.send(api, self.request(api, **fields), timeout=within)
        if sent is not None:
            sent()
        while (answer := self.receive(self._timeout)) is None:
            pass
        return answer[1]

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._buffer = bytearray()

    def _ask_versions(self) -> None:
        """KIP-511: a broker that does not know our version answers in version 0, with error 35."""
        for version in (3, 0):
            body = messages.request(
                API_VERSIONS, version, client_software_name="tailrace", client_software_version="0"
            )
            self._send(API_VERSIONS, version, body, self._timeout, True)
            with self._closed_on_fault():
                expected = self._expected.popleft()
                frame = self._read_frame(expected.deadline)
                if frame is None:
                    raise Disconnected(f"{self.address} did not answer api_versions in time")
                if version and int.from_bytes(frame[4:6], "big") == ErrorCode.unsupported_version:
                    continue
                answer = self._decode(expected, frame)
                raise_for(answer.error_code, f"{self.address}: api_versions")
            self._versions = {int(k.api_key): Versions(k.min_version, k.max_version) for k in answer.api_keys}
            return

    def _send(self, key: int, version: int, body: Any, timeout: float, answered: bool) -> int:
        correlation_id = self._next_id
        self._next_id = (correlation_id + 1) & 0x7FFFFFFF
        pieces = messages.encode_request(key, version, correlation_id, self._client_id, body)
        deadline = self._clock.monotonic() + timeout
        with self._closed_on_fault():
            self._write([memoryview(piece).cast("B") for piece in pieces], deadline)  # type: ignore[arg-type]
        if answered:
            self._expected.append(_Expected(key, version, correlation_id, deadline))
        return correlation_id

    def _write(self, views: list[memoryview], deadline: float) -> None:
        first = 0
        while first < len(views):
            try:
                sent = self._open.sendmsg(views[first : first + _IOV_MAX])
            except BlockingIOError:
                if not self._wait(select.POLLOUT, deadline):
                    raise Disconnected(f"{self.address} does not take what is sent") from None
                continue
            while first < len(views) and sent >= len(views[first]):
                sent -= len(views[first])
                first += 1
            if sent:
                views[first] = views[first][sent:]

    def _read_frame(self, until: float) -> memoryview | None:
        """The next frame; None when it is not whole at `until`. What came of it is kept for the next call."""
        while True:
            if self._have < 4:
                into = memoryview(self._size)[self._have :]
            else:
                length = int.from_bytes(self._size, "big", signed=True)
                if self._have == 4:
                    self._make_room(length)
                into = memoryview(self._buffer)[self._have - 4 : length]
                if not into:
                    self._have = 0
                    return memoryview(self._buffer)[:length]
            try:
                count = self._open.recv_into(into)
            except BlockingIOError:
                if not self._wait(select.POLLIN, until):
                    return None
                continue
            if count == 0:
                raise Disconnected(f"{self.address} closed the connection")
            self._have += count

    def _make_room(self, length: int) -> None:
        if not 4 <= length <= MAX_RESPONSE:
            hint = "" if self._versions else "; is this the plaintext port of a Kafka broker?"
            raise Corrupt(
                f"{self.address} announces an answer of {length} bytes ({MAX_RESPONSE} at most){hint}"
            )
        if len(self._buffer) < length or len(self._buffer) > _KEPT_BUFFER >= length:
            # Never resized in place: a view of the old one may live on in what receive() gave out.
            # Rounded up, lest each answer that is a little larger takes fresh memory.
            self._buffer = bytearray(-(-length // _BUFFER_STEP) * _BUFFER_STEP)

    def _decode(self, expected: _Expected, frame: memoryview) -> Any:
        correlation_id, body = messages.decode_response(expected.key, expected.version, frame)
        if correlation_id != expected.correlation_id:
            raise Corrupt(
                f"{self.address} answers request {correlation_id} where {expected.correlation_id} "
                f"({messages.APIS[expected.key].name}) was due"
            )
        return body

    @property
    def _open(self) -> socket.socket:
        if self._socket is None:
            raise Disconnected(f"the connection to {self.address} is closed")
        return self._socket

    def _wait(self, event: int, until: float) -> bool:
        poll = select.poll()
        poll.register(self._open, event)
        return bool(poll.poll(max(until - self._clock.monotonic(), 0) * 1000))

    @contextmanager
    def _closed_on_fault(self) -> Iterator[None]:
        """Any fault closes the connection: where in the stream it stands can then not be told."""
        try:
            yield
        except OSError as error:
            self.close()
            raise Disconnected(f"{self.address}: {error}") from error
        except TailraceError:
            self.close()
            raise


def wait_readable(connections: Iterable[Connection], timeout: float) -> Sequence[Connection]:
    """Those with bytes to read (or an end), as soon as there is one; empty after `timeout` seconds."""
    connections = list(connections)
    if closed := [connection for connection in connections if connection.closed]:
        return closed
    poll = select.poll()
    by_number = {}
    for connection in connections:
        by_number[connection.fileno()] = connection
        poll.register(connection.fileno(), select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(timeout * 1000)]
