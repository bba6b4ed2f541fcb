"""Runs one agent: a thread for every source and every sink, from the first row to the last commit.

It ends when its sources are finished and all they gave is committed (`--once`); when it is told to stop, with
a limited time to commit what was read; or when a component fails, and then nothing more is committed. The
next start asks the sinks what they have, so no way of ending loses a row or writes one twice.
"""

import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any

from tailrace.agents.mailbox import Left
from tailrace.agents.wiring import WiredAgent, WiredChannel
from tailrace.clock import Clock

TICK = 0.05
"""Seconds between two looks at the loops."""
GOODBYE = 5.0
"""Seconds that the loops have to close their components after the last commit."""


class Runner:
    """One run of one agent.

    The sources' threads put batches into channels, the sinks' threads take them out (source_loop.py and
    sink_loop.py); this one only watches, and decides when the agent is drained.
    """

    def __init__(self, agent: WiredAgent, clock: Clock) -> None:
        self._agent = agent
        self._clock = clock
        self._running: list[Future[Any]] = []
        self._settling: list[Future[bool]] = []

    def run(self, stop: threading.Event, shutdown_timeout: float) -> bool:
        """True when all that was read is committed; False when the time after `stop` was too short for it.

        Raises what a component failed with: Halt, Corrupt and ConfigError mean that a restart is no cure.
        """
        agent = self._agent
        threads = len(agent.channels) + len(agent.sources) + len(agent.sinks)
        pool = ThreadPoolExecutor(threads, thread_name_prefix=agent.name)
        try:
            drained = self._run(pool, stop, shutdown_timeout)
        finally:
            agent.leave.set()
            wait(self._running, timeout=GOODBYE)
            pool.shutdown(wait=False)
            for wired in agent.channels:
                if wired.opened.is_set():
                    wired.channel.close()
        self._raise_failures()
        return drained

    def _run(self, pool: ThreadPoolExecutor, stop: threading.Event, shutdown_timeout: float) -> bool:
        agent = self._agent
        self._running = [pool.submit(self._open, wired) for wired in agent.channels]
        self._watch_until(lambda: stop.is_set() or all(wired.opened.is_set() for wired in agent.channels))
        if stop.is_set():
            return True  # nothing was read yet
        loops = [loop.run for loop in agent.sinks] + [loop.run for loop in agent.sources]
        self._running = [pool.submit(loop) for loop in loops]
        self._watch_until(lambda: stop.is_set() or self._drained())
        if not stop.is_set():
            return True
        for source in agent.sources:
            source.pause()
        return self._watch_until(self._drained, self._clock.monotonic() + shutdown_timeout)

    def _open(self, wired: WiredChannel) -> None:
        try:
            wired.patience(wired.channel.open)
        except Left:
            return
        wired.opened.set()

    def _watch_until(self, condition: Callable[[], bool], deadline: float = float("inf")) -> bool:
        """True once `condition` holds; False when `deadline` is over. Raises what a loop failed with."""
        while not condition():
            if self._clock.monotonic() >= deadline:
                return False
            wait(self._running, TICK, FIRST_EXCEPTION)
            self._raise_failures()
        return True

    def _raise_failures(self) -> None:
        for future in self._running:
            if future.done():
                future.result()

    def _drained(self) -> bool:
        """No row is on its way: sources rest, channels are empty, sinks have committed, none started over."""
        if not all(source.resting for source in self._agent.sources):
            self._settling = []
            return False
        if not self._settling:
            self._settling = [sink.settle() for sink in self._agent.sinks]
        if not all(answer.done() for answer in self._settling):
            return False
        settled = all(answer.result() for answer in self._settling)
        self._settling = []
        return settled and all(source.resting for source in self._agent.sources)
