"""One agent as its supervisor sees it: a child that is started, heard, and restarted when that can help."""

import selectors
import signal
from dataclasses import replace
from typing import Literal

import structlog

from tailrace.agents.backoff import Backoff
from tailrace.agents.job import Job
from tailrace.agents.process import ChildProcess, LineHandler
from tailrace.agents.report import Ended, How, Progress, from_line
from tailrace.config.pipeline import RestartSettings

State = Literal["waiting", "ready", "up", "down", "ended"]
FOR_GOOD: frozenset[How] = frozenset({"finished", "stopped", "unfinished", "halt", "config"})
"""Ends after which the agent is not started again."""


class AgentProcess:
    """`lock` is the descriptor that holds the agent's state directory; every child of it inherits that."""

    def __init__(self, job: Job, lock: int, restart: RestartSettings, on_log: LineHandler | None) -> None:
        self.job = job
        self.state: State = "waiting"
        self.ended: Ended | None = None
        self.seconds = 0.0
        """Since its first start; stands still once it has ended."""
        self.restarts = 0
        self._stopping = False
        self._killed = False
        self._lock = lock
        self._on_log = on_log
        self._backoff = Backoff(restart.initial, restart.max)
        self._child: ChildProcess | None = None
        self._last_words: Ended | None = None
        self._before = Progress()
        self._now = Progress()
        self._first_start: float | None = None
        self._started_at = 0.0
        self._restart_at = 0.0
        self._log = structlog.get_logger().bind(agent=job.agent)

    @property
    def progress(self) -> Progress:
        """Of all its processes together, as far as they have told."""
        return self._now.plus(self._before)

    @property
    def status(self) -> str:
        """Its state in a word, and once it has ended, how."""
        return self.ended.how if self.state == "ended" and self.ended is not None else self.state

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    def let_start(self, bootstrap: str) -> None:
        """What it waited for is there: the next step() starts it, with this address of its cluster."""
        self.job = replace(self.job, bootstrap=bootstrap)
        self.state = "ready"

    def step(self, selector: selectors.BaseSelector, now: float) -> None:
        """Starts it when it may, notices its end, starts it again when that is due."""
        if self.state == "ready":
            self._start(selector, now)
        elif self.state == "up":
            self.seconds = now - (self._first_start or now)
            assert self._child is not None
            status = self._child.ended()
            if status is not None:
                self._child = None
                self._after(self._last_words or self._without_words(status), now)
        elif self.state == "down" and now >= self._restart_at:
            self.restarts += 1
            self._start(selector, now)

    def stop(self) -> None:
        """SIGTERM when it is up; from now on it is not started again."""
        self._stopping = True
        if self._child is not None:
            self._child.terminate()
        elif self.state != "ended":
            self.state = "ended"
            self.ended = self.ended or Ended("stopped")

    def kill(self) -> None:
        if self._child is not None:
            self._killed = True
            self._child.kill()

    def _start(self, selector: selectors.BaseSelector, now: float) -> None:
        if self._first_start is None:
            self._first_start = now
        self._before, self._now, self._last_words = self.progress, Progress(), None
        self._started_at = now
        self._child = ChildProcess(
            "tailrace.agents",
            (),
            selector,
            on_line=self._heard,
            on_log=self._on_log,
            job=self.job.to_line(),
            hold=(self._lock,),
        )
        self.state = "up"

    def _after(self, ended: Ended, now: float) -> None:
        if self._killed and ended.how == "crash":
            ended = Ended("unfinished", "its time to stop was over")
        self.ended = ended
        too_often = ended.how == "corrupt" and self._backoff.gives_up_on_corrupt(now)
        if ended.how in FOR_GOOD or too_often or self._stopping:
            self.state = "ended"
            if ended.how not in ("finished", "stopped"):
                self._log.error(
                    "the agent has ended and is not started again", how=ended.how, reason=ended.reason
                )
            return
        delay = self._backoff.after_failure(now - self._started_at, got_on=self._now.rows_landed > 0)
        self.state = "down"
        self._restart_at = now + delay
        self._log.error("the agent has failed", how=ended.how, reason=ended.reason, restart_in_seconds=delay)

    def _without_words(self, status: int) -> Ended:
        if self._stopping and status == -signal.SIGTERM:
            return Ended("stopped")  # before it had begun
        return Ended("crash", f"killed by signal {-status}" if status < 0 else f"exit status {status}")

    def _heard(self, line: bytes) -> None:
        report = from_line(line)
        if isinstance(report, Progress):
            self._now = report
        elif isinstance(report, Ended):
            self._last_words = report
