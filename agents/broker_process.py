"""The built-in broker as its supervisor sees it: a child that says where it serves, and comes back there."""

import json
import selectors
from typing import Literal

import structlog

from tailrace.agents.backoff import Backoff
from tailrace.agents.process import ChildProcess, LineHandler
from tailrace.config.broker import BrokerSettings
from tailrace.config.pipeline import RestartSettings
from tailrace.errors import Locked

State = Literal["new", "up", "down", "ended", "elsewhere"]
BROKER_STOP = 10.0
"""Seconds that it is given to close its logs."""
LOCKED, REFUSED = 75, (65, 78)
"""Its exit statuses: its data directory or address is in use; its settings or directory are no good."""
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - compared with, not bound to


class BrokerRefused(Exception):
    """The broker cannot run with these settings; it has said why on standard error."""


class BrokerProcess:
    """`may_be_elsewhere`: another run's broker on the same data directory will do (`--agent`)."""

    def __init__(
        self,
        settings: BrokerSettings,
        restart: RestartSettings,
        on_log: LineHandler | None,
        *,
        may_be_elsewhere: bool,
    ) -> None:
        self.state: State = "new"
        self.address = ""
        """`host:port` that agents connect to; empty until it serves for the first time."""
        self.restarts = 0
        self._settings = settings
        self._backoff = Backoff(restart.initial, restart.max)
        self._on_log = on_log
        self._may_be_elsewhere = may_be_elsewhere and not settings.listen.endswith(":0")
        self._child: ChildProcess | None = None
        self._serves = False
        self._stopping = False
        self._started_at = 0.0
        self._restart_at = 0.0
        self._log = structlog.get_logger().bind(component="broker")

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    def step(self, selector: selectors.BaseSelector, now: float) -> None:
        """Starts it, notices its end, starts it again when that is due. Raises Locked, or BrokerRefused."""
        if self.state == "new":
            self._start(selector, now)
        elif self.state == "up":
            assert self._child is not None
            status = self._child.ended()
            if status is not None:
                self._child = None
                self._after(status, now)
        elif self.state == "down" and now >= self._restart_at:
            self.restarts += 1
            self._start(selector, now)

    def stop(self) -> None:
        """SIGTERM when it is up; from now on it is not started again."""
        self._stopping = True
        if self._child is not None:
            self._child.terminate()
        else:
            self.state = "ended"

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _start(self, selector: selectors.BaseSelector, now: float) -> None:
        self._started_at, self._serves = now, False
        arguments = ("--settings", self._settings.model_dump_json(), "--parent-fd", "0")
        self._child = ChildProcess(
            "tailrace.broker", arguments, selector, on_line=self._heard, on_log=self._on_log
        )
        self.state = "up"

    def _after(self, status: int, now: float) -> None:
        if self._stopping:
            self.state = "ended"
        elif status == LOCKED and self._may_be_elsewhere:
            self._log.info("another run has the broker; using that one", address=self._settings.listen)
            self.state, self.address = "elsewhere", _reachable(self._settings.listen)
        elif status == LOCKED and not self.address:
            raise Locked(f"{self._settings.data_dir} is in use by another broker")
        elif status in REFUSED:
            raise BrokerRefused
        else:
            delay = self._backoff.after_failure(now - self._started_at, got_on=self._serves)
            self.state, self._restart_at = "down", now + delay
            self._log.error("the broker has failed", status=status, restart_in_seconds=delay)

    def _heard(self, line: bytes) -> None:
        try:
            listens = str(json.loads(line)["ready"])
        except (ValueError, KeyError, TypeError):
            return
        self._serves = True
        if not self.address:
            self.address = _reachable(listens)
            # A free port that was taken once is kept: the agents know it.
            host = self._settings.listen.rpartition(":")[0]
            self._settings = self._settings.model_copy(
                update={"listen": f"{host}:{listens.rpartition(':')[2]}"}
            )
        self._log.info("the broker serves", address=self.address)


def _reachable(listens: str) -> str:
    host, _, port = listens.rpartition(":")
    return f"{_ANY_ADDRESS.get(host, host)}:{port}"
