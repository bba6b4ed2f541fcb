"""One child process of the supervisor: how it is started, what it says line by line, how it is stopped."""

import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

LineHandler = Callable[[bytes], None]
MAX_LINE = 1 << 20
"""Bytes of a line that a child may say; the rest of a longer one is dropped."""


class ChildProcess:
    """A python module running as a child. It is to be made by the supervisor's main thread (see orphan.py).

    `on_line` gets what it writes to standard output, `on_log` what it writes to standard error; without
    `on_log` that goes where the supervisor's goes.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        selector: selectors.BaseSelector,
        *,
        on_line: LineHandler,
        on_log: LineHandler | None = None,
        job: bytes = b"",
        hold: Sequence[int] = (),
    ) -> None:
        """`job` is written to its standard input, which stays open as long as we live; it inherits `hold`."""
        # Not in our process group: Ctrl-C is for the supervisor, which then stops its children in order.
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if on_log is not None else None,
            pass_fds=hold,
            process_group=0,
            bufsize=0,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._selector = selector
        self._pipes: dict[int, _Lines] = {}
        self._read_from(self._process.stdout.fileno(), on_line)
        if self._process.stderr is not None and on_log is not None:
            self._read_from(self._process.stderr.fileno(), on_log)
        try:
            _write_all(self._process.stdin.fileno(), job)
        except BrokenPipeError:
            pass  # it has ended already; ended() will say so

    @property
    def pid(self) -> int:
        return self._process.pid

    def ended(self) -> int | None:
        """Its exit status (negative: the signal that killed it), when all that it said is read; else None."""
        status = self._process.poll()
        if status is None:
            return None
        for fd in list(self._pipes):
            while fd in self._pipes and self._read(fd):
                pass
        self._close()
        return status

    def terminate(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()

    def _read_from(self, fd: int, handler: LineHandler) -> None:
        os.set_blocking(fd, False)
        self._pipes[fd] = _Lines(handler)
        self._selector.register(fd, selectors.EVENT_READ, lambda: self._read(fd))

    def _read(self, fd: int) -> bool:
        """Reads what is there; False when there is nothing (more)."""
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return False
        if not data:
            self._selector.unregister(fd)
            del self._pipes[fd]
            return False
        self._pipes[fd].feed(data)
        return True

    def _close(self) -> None:
        for fd in self._pipes:
            self._selector.unregister(fd)
        self._pipes.clear()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


class _Lines:
    """Puts what comes from a pipe together to lines."""

    def __init__(self, handler: LineHandler) -> None:
        self._handler = handler
        self._begun = b""

    def feed(self, data: bytes) -> None:
        *lines, begun = (self._begun + data).split(b"\n")
        self._begun = begun[:MAX_LINE]
        for line in lines:
            self._handler(line)
