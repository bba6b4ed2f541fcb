"""What a run has done, for people as a table and for programs as JSON; and the status it ends with."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tailrace.agents.report import How, Progress
from tailrace.component import Problem

OK, FAILED, CRASHED, TEMPORARY, CONFIG = 0, 1, 70, 75, 78
"""Exit statuses: all is well; a file or agent failed; our fault; locked or out of time; configuration."""


@dataclass(frozen=True, slots=True)
class AgentSummary:
    """One agent's part of a run. `how` is None when it was never started or did not end."""

    how: How | None
    reason: str
    seconds: float
    restarts: int
    progress: Progress

    @property
    def megabytes_a_second(self) -> float:
        """Bodies read, in 10^6 bytes, from the first row read to the last commit."""
        seconds = self.progress.busy_seconds or self.seconds
        return self.progress.bytes_read / 1e6 / seconds if seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """One run. `open` says what was not finished when the time was up; empty otherwise."""

    agents: Mapping[str, AgentSummary]
    seconds: float
    open: Sequence[str] = ()

    @property
    def problems(self) -> list[Problem]:
        return [problem for agent in self.agents.values() for problem in agent.progress.problems]

    @property
    def status(self) -> int:
        hows = {agent.how for agent in self.agents.values()}
        if "config" in hows:
            return CONFIG
        if self.open:
            return TEMPORARY
        if hows & {"halt", "corrupt"} or any(problem.failed for problem in self.problems):
            return FAILED
        return CRASHED if "crash" in hows else OK

    def to_json(self) -> dict[str, Any]:
        agents = {
            name: {
                **asdict(agent.progress),
                **{k: getattr(agent, k) for k in ("how", "reason", "restarts")},
                "seconds": round(agent.seconds, 3),
                "mb_per_second": round(agent.megabytes_a_second, 3),
            }
            for name, agent in self.agents.items()
        }
        return {
            "status": self.status,
            "seconds": round(self.seconds, 3),
            "open": list(self.open),
            "agents": agents,
        }


_COLUMNS = ("agent", "rows read", "rows landed", "dead letters", "files written", "seconds", "MB/s")


def show(summary: Summary, console: Console) -> None:
    """The table, and under it what a person should know."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "agent" else "right", no_wrap=True)
    for name, agent in summary.agents.items():
        progress = agent.progress
        counts = (progress.rows_read, progress.rows_landed, progress.dead_letters, progress.files)
        table.add_row(
            name, *(f"{n:,}" for n in counts), f"{agent.seconds:.1f}", f"{agent.megabytes_a_second:.1f}"
        )
    console.print(table)
    for problem in summary.problems:
        word = "failed" if problem.failed else "warning"
        console.print(f"{word}: {problem.place}: {problem.text}", markup=False, highlight=False)
    for name, agent in summary.agents.items():
        if agent.how not in (None, "finished", "stopped"):
            console.print(f"{agent.how}: {name}: {agent.reason}", markup=False, highlight=False)
    for what in summary.open:
        console.print(f"not finished: {what}", markup=False, highlight=False)
