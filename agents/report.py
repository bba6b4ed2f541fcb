"""What an agent's process tells its supervisor: one JSON object a line, on its standard output."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tailrace.agents.wiring import WiredAgent
from tailrace.component import Problem

MOST_PROBLEMS = 100
"""That are told at a time."""

How = Literal["finished", "stopped", "unfinished", "halt", "corrupt", "config", "crash"]
"""How an agent's process ended. finished: nothing is left to read (--once). stopped: told to, and all that
was read is committed. unfinished: told to, and it was not. config, halt: no restart can help. corrupt: one
may. crash: one should."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Counters of one process since it began, and what is wrong now."""

    rows_read: int = 0
    bytes_read: int = 0
    """Bytes of the bodies of the rows read."""
    rows_landed: int = 0
    dead_letters: int = 0
    files: int = 0
    busy_seconds: float = 0.0
    """From the first batch read to the last commit."""
    first_read: int | None = None
    """When the first batch was read, ms since the epoch; None before."""
    last_commit: int | None = None
    """When rows were last committed, ms since the epoch; None before."""
    rows_waiting: int = 0
    """Rows in channels."""
    lag: int | None = None
    """Bytes or rows that are there and not read; None when a source cannot say."""
    problems: Sequence[Problem] = ()

    def plus(self, earlier: "Progress") -> "Progress":
        """Counters of this process and of those before it; the rest is this one's."""
        return Progress(
            self.rows_read + earlier.rows_read,
            self.bytes_read + earlier.bytes_read,
            self.rows_landed + earlier.rows_landed,
            self.dead_letters + earlier.dead_letters,
            self.files + earlier.files,
            self.busy_seconds + earlier.busy_seconds,
            self.first_read if earlier.first_read is None else earlier.first_read,
            earlier.last_commit if self.last_commit is None else self.last_commit,
            self.rows_waiting,
            self.lag,
            self.problems,
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """The last line of a process that ended by itself."""

    how: How
    reason: str = ""


def look(agent: WiredAgent) -> Progress:
    """The agent's progress now. Any thread, before, during and after its run."""
    patiences = [wired.patience for wired in agent.channels]
    patiences += [source.patience for source in agent.sources] + [sink.patience for sink in agent.sinks]
    problems = [patience.trouble for patience in patiences if patience.trouble is not None]
    problems += [problem for source in agent.sources for problem in source.source.problems()]
    problems += [
        problem
        for sink in agent.sinks
        for problem in sink.sink.problems()
        if problem.failed or not _tells(sink.patience.trouble, problem)
    ]
    lags = [source.source.lag() for source in agent.sources]
    known = [lag for lag in lags if lag is not None]
    totals = [sink.sink.totals for sink in agent.sinks]
    return Progress(
        rows_read=sum(source.meter.rows for source in agent.sources),
        bytes_read=sum(source.meter.body_bytes for source in agent.sources),
        rows_landed=sum(total.rows for total in totals),
        dead_letters=sum(total.dead_letters for total in totals),
        files=sum(total.files for total in totals),
        busy_seconds=_busy_seconds(agent),
        first_read=min((s.began_ms for s in agent.sources if s.began_ms is not None), default=None),
        last_commit=max((s.committed_ms for s in agent.sinks if s.committed_ms is not None), default=None),
        rows_waiting=sum(wired.channel.depth()[0] for wired in agent.channels if wired.opened.is_set()),
        lag=sum(known) if len(known) == len(lags) else None,
        problems=bounded(problems),
    )


def bounded(problems: list[Problem]) -> list[Problem]:
    """Failures first, and no more than a line can hold."""
    ordered = sorted(problems, key=lambda problem: not problem.failed)
    left_out = len(ordered) - MOST_PROBLEMS
    if left_out <= 0:
        return ordered
    return [*ordered[:MOST_PROBLEMS], Problem("and", f"{left_out} more problems; the log has them")]


def _tells(trouble: Problem | None, problem: Problem) -> bool:
    """A sink raises its trouble, with its place in front, and has it as a problem too: once is enough."""
    return trouble is not None and problem.text in trouble.text


def _busy_seconds(agent: WiredAgent) -> float:
    began = [source.began for source in agent.sources if source.began is not None]
    ended = [sink.committed_at for sink in agent.sinks if sink.committed_at is not None]
    return max(max(ended) - min(began), 0.0) if began and ended else 0.0


def to_line(report: Progress | Ended) -> str:
    return json.dumps({type(report).__name__.lower(): asdict(report)}) + "\n"


def from_line(line: str | bytes) -> Progress | Ended | None:
    """None for a line that is not a report."""
    try:
        data: dict[str, Any] = json.loads(line)
        if "progress" in data:
            problems = tuple(Problem(**problem) for problem in data["progress"].pop("problems"))
            return Progress(**data["progress"], problems=problems)
        return Ended(**data["ended"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
