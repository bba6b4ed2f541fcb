"""Shows a run while it goes on: a table that moves on a terminal, log lines everywhere else."""

from collections import deque
from collections.abc import Mapping
from typing import Protocol

import structlog
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tailrace.agents.agent_process import AgentProcess
from tailrace.agents.process import LineHandler

LINE_EVERY = 10.0
"""Seconds between two log lines about the same agent."""
WINDOW = 5.0
"""Seconds over which rates are taken."""


MOST_PROBLEMS = 5
"""Lines under the table; the log has them all."""


class View(Protocol):
    """Somebody who looks at a run."""

    @property
    def on_log(self) -> LineHandler | None:
        """Gets each line that children log; None: they write to our own standard error."""
        ...

    def show(self, agents: Mapping[str, AgentProcess], now: float) -> None:
        """Called about ten times a second; `now` is monotonic seconds."""
        ...

    def close(self) -> None: ...


class Rates:
    """Rows and bytes a second over the last WINDOW seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def __call__(self, rows: int, size: int, now: float) -> tuple[float, float]:
        self._seen.append((now, rows, size))
        while len(self._seen) > 2 and now - self._seen[0][0] > WINDOW:
            self._seen.popleft()
        then, rows_then, size_then = self._seen[0]
        elapsed = now - then
        return ((rows - rows_then) / elapsed, (size - size_then) / elapsed) if elapsed > 0 else (0.0, 0.0)


class LineView:
    """Log lines: progress every LINE_EVERY seconds while there is any, a problem once when it appears."""

    on_log: LineHandler | None = None

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._rates: dict[str, Rates] = {}
        self._next = 0.0
        self._problems: set[tuple[str, str, str]] = set()
        self._shown: dict[str, tuple[int, int]] = {}

    def show(self, agents: Mapping[str, AgentProcess], now: float) -> None:
        problems = {
            (name, problem.place, problem.gist): problem.text
            for name, agent in agents.items()
            for problem in agent.progress.problems
        }
        for name, place, gist in sorted(problems.keys() - self._problems):
            self._log.warning("problem", agent=name, place=place, text=problems[name, place, gist])
        self._problems = set(problems)
        rates = {name: self._rate(name, agent, now) for name, agent in agents.items()}
        if now < self._next:
            return
        self._next = now + LINE_EVERY
        for name, agent in agents.items():
            counts = (agent.progress.rows_read, agent.progress.rows_landed)
            if self._shown.get(name, (0, 0)) != counts:
                self._shown[name] = counts
                rows, size = rates[name]
                self._log.info(
                    "progress",
                    agent=name,
                    rows_read=counts[0],
                    rows_landed=counts[1],
                    rows_a_second=round(rows),
                    mb_a_second=round(size / 1e6, 1),
                    lag=agent.progress.lag,
                )

    def _rate(self, name: str, agent: AgentProcess, now: float) -> tuple[float, float]:
        progress = agent.progress
        return self._rates.setdefault(name, Rates())(progress.rows_read, progress.bytes_read, now)

    def close(self) -> None:
        pass


class LiveView:
    """A table on a terminal, with the log lines of all processes scrolling above it."""

    _COLUMNS = ("agent", "", "rows read", "rows landed", "rows/s", "MB/s", "lag", "restarts")

    def __init__(self, console: Console) -> None:
        self._rates: dict[str, Rates] = {}
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()
        self._next = 0.0

    def on_log(self, line: bytes) -> None:
        text = line.decode(errors="replace")
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, agents: Mapping[str, AgentProcess], now: float) -> None:
        if now < self._next:
            return
        self._next = now + 0.25
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        for column in self._COLUMNS:
            table.add_column(column, justify="left" if column in ("agent", "") else "right", no_wrap=True)
        problems = []
        for name, agent in agents.items():
            progress = agent.progress
            rows, size = self._rates.setdefault(name, Rates())(progress.rows_read, progress.bytes_read, now)
            counts = (
                f"{progress.rows_read:,}",
                f"{progress.rows_landed:,}",
                f"{rows:,.0f}",
                f"{size / 1e6:.1f}",
            )
            lag = "" if progress.lag is None else f"{progress.lag:,}"
            table.add_row(name, agent.status, *counts, lag, str(agent.restarts or ""))
            problems += [Text(f"{name}: {problem.place}: {problem.text}") for problem in progress.problems]
        self._live.update(Group(table, *problems[:MOST_PROBLEMS]), refresh=True)

    def close(self) -> None:
        self._live.stop()
