"""A real broker in a process of its own, for tests that speak to it over sockets."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support import kills
from tests.support.wire_client import WireClient

_DEADLINE = 30.0


class LiveBroker:
    """Serves on a free port of 127.0.0.1 from construction on; a `with` block stops it, orderly."""

    def __init__(
        self,
        data_dir: Path,
        *,
        listen: str = "127.0.0.1:0",
        failpoints: str = "",
        pass_fds: tuple[int, ...] = (),
        more: tuple[str, ...] = (),
        **settings: Any,
    ) -> None:
        self.data_dir = data_dir
        self._failpoints = failpoints
        self.log_path = data_dir.with_name(data_dir.name + ".stderr")
        arguments = json.dumps({"listen": listen, "data_dir": str(data_dir), **settings})
        environment: Mapping[str, str] = {**os.environ, "TAILRACE_FAILPOINTS": failpoints}
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tailrace.broker", "--settings", arguments, *more],
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                pass_fds=pass_fds,
            )
        self.address = self._ready()
        host, _, port = self.address.rpartition(":")
        self.host, self.port = host, int(port)

    def _ready(self) -> str:
        assert self.process.stdout is not None
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)
        line = self.process.stdout.readline() if poll.poll(_DEADLINE * 1000) else b""
        if not line:
            self.process.kill()
            status = self.process.wait()
            raise AssertionError(f"the broker did not start (status {status}): {self.log()}")
        ready: str = json.loads(line)["ready"]
        return ready

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def client(self, timeout: float = 20.0) -> WireClient:
        return WireClient(self.host, self.port, timeout)

    def anonymous_kib(self) -> int:
        """Anonymous resident memory of the process now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(_DEADLINE)

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        """The exit status, or minus the signal that ended it."""
        status = self.process.wait(_DEADLINE)
        kills.note(self._failpoints, status)
        return status

    def __enter__(self) -> "LiveBroker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self.process.stdout is not None:
            self.process.stdout.close()
