"""Runs a pipeline: the broker and every agent as child processes, until they have ended or we are to stop.

Children die with this process, and hold its locks until they are gone. SIGTERM (or Ctrl-C, or SIGHUP) drains
the agents and then stops the broker; a second one kills them.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import structlog

from tailrace.agents.agent_process import AgentProcess
from tailrace.agents.broker_process import BROKER_STOP, BrokerProcess
from tailrace.agents.children import Children
from tailrace.agents.job import Job
from tailrace.agents.lock import lock
from tailrace.agents.plan import order
from tailrace.agents.progress import View
from tailrace.agents.summary import AgentSummary, Summary
from tailrace.clock import Clock
from tailrace.config.pipeline import Pipeline
from tailrace.errors import ConfigError

DRAIN_SHARE = 0.8
"""Of `shutdown_timeout`, what agents have for their last commits; after all of it they are killed."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Supervisor:
    """One run of `only` some agents of a pipeline, or of all. Locked when one of them runs already."""

    def __init__(
        self, pipeline: Pipeline, *, once: bool, only: Sequence[str], view: View, clock: Clock
    ) -> None:
        self._pipeline = pipeline
        self._once = once
        self._view = view
        self._clock = clock
        self._log = structlog.get_logger()
        self._signals = 0
        names = [name for name in pipeline.agents if not only or name in only]
        self._generations = order(pipeline, names)[0] if once else [names]
        try:
            self._locks = {name: lock(pipeline.state_dir / name, clock) for name in names}
        except OSError as error:
            text = f"cannot be used: {error.filename}: {error.strerror}"
            raise ConfigError([pipeline.document.mistake(("state_dir",), text)]) from error
        self._agents = {name: self._agent(name) for name in names}
        self._broker: BrokerProcess | None = None
        sections = pipeline.sections
        if sections.broker is not None:
            self._broker = BrokerProcess(
                sections.broker, sections.restart, view.on_log, may_be_elsewhere=bool(only)
            )

    def run(self) -> Summary:
        """From the main thread; returns when all has ended. Raises Locked, BrokerRefused."""
        began = self._clock.monotonic()
        unfinished: list[str] = []
        deadline = began + self._pipeline.sections.once_timeout if self._once else float("inf")
        try:
            with self._catching_signals(), Children(self._clock) as children:
                if self._broker is not None:
                    children.add(self._broker)
                for agent in self._agents.values():
                    children.add(agent)
                if not children.run_until(lambda: self._signals > 0 or self._is_over(), deadline, self._look):
                    unfinished = self._what_is_open()
                self._shut_down(children)
        finally:
            self._view.close()
            for fd in self._locks.values():
                os.close(fd)
        agents = {name: _summary_of(agent) for name, agent in self._agents.items()}
        return Summary(agents, self._clock.monotonic() - began, unfinished)

    def _agent(self, name: str) -> AgentProcess:
        sections, document = self._pipeline.sections, self._pipeline.document
        job = Job(
            agent=name,
            file=document.file,
            data=document.data,
            bootstrap=self._pipeline.bootstrap,
            once=self._once,
            drain=sections.shutdown_timeout * DRAIN_SHARE,
        )
        return AgentProcess(job, self._locks[name], sections.restart, self._view.on_log)

    def _look(self, now: float) -> None:
        self._let_start()
        self._view.show(self._agents, now)

    def _let_start(self) -> None:
        """Agents wait for the broker, and under `--once` for the agents that write what they read."""
        bootstrap = self._broker.address if self._broker is not None else self._pipeline.bootstrap
        if self._broker is not None and not bootstrap:
            return
        for generation in self._generations:
            for name in generation:
                if self._agents[name].state == "waiting":
                    self._agents[name].let_start(bootstrap)
            if any(self._agents[name].state != "ended" for name in generation):
                return

    def _is_over(self) -> bool:
        """A broker that no agent is left for goes on, unless --once."""
        return (self._once or self._broker is None) and self._all_ended()

    def _all_ended(self) -> bool:
        return all(agent.state == "ended" for agent in self._agents.values())

    def _what_is_open(self) -> list[str]:
        what = []
        for name, agent in self._agents.items():
            if agent.state != "ended":
                progress = agent.progress
                lag = "" if progress.lag is None else f", {progress.lag} not read"
                what.append(f"{name}: {agent.state}, {progress.rows_waiting} rows in channels{lag}")
        return what

    def _shut_down(self, children: Children) -> None:
        """Agents first, all at once, then the broker that they commit to."""
        for agent in self._agents.values():
            agent.stop()
        children.run_until(
            lambda: self._signals > 1 or self._all_ended(),
            self._clock.monotonic() + self._pipeline.sections.shutdown_timeout,
            lambda now: self._view.show(self._agents, now),
        )
        for agent in self._agents.values():
            agent.kill()
        children.run_until(self._all_ended)
        if self._broker is not None:
            broker = self._broker
            broker.stop()
            children.run_until(
                lambda: self._signals > 1 or broker.state == "ended",
                self._clock.monotonic() + BROKER_STOP,
            )

    @contextmanager
    def _catching_signals(self) -> Iterator[None]:
        # One that we were started to ignore (nohup, a shell's background job) stays ignored.
        heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._on_signal) for number in heeded}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self._signals += 1
        self._log.info("stopping" if self._signals == 1 else "killing", signal=signal.Signals(number).name)


def _summary_of(agent: AgentProcess) -> AgentSummary:
    how = agent.ended.how if agent.ended is not None else None
    reason = agent.ended.reason if agent.ended is not None else ""
    return AgentSummary(how, reason, agent.seconds, agent.restarts, agent.progress)
