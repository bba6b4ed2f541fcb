"""What is shown while a run goes on."""

from types import SimpleNamespace
from typing import Any

from rich.console import Console
from structlog.testing import capture_logs

from tailrace.agents.progress import LINE_EVERY, LineView, LiveView, Rates
from tailrace.agents.report import Progress
from tailrace.component import Problem


def agents(**progress: Progress) -> dict[str, Any]:
    return {name: SimpleNamespace(progress=p, status="halt", restarts=0) for name, p in progress.items()}


def test_rates_are_of_the_last_seconds() -> None:
    rates = Rates()
    assert rates(0, 0, 0.0) == (0, 0)
    assert rates(100, 1000, 1.0) == (100, 1000)
    for second in range(2, 20):
        last = rates(100 + 10 * second, 0, float(second))
    assert last[0] == 10


def test_lines_come_now_and_then_and_only_when_something_moved() -> None:
    with capture_logs() as logs:
        view = LineView()
        for tick in range(1000):
            view.show(agents(a=Progress(rows_read=min(tick, 250)), b=Progress()), 1000 + tick / 10)
    shown = [(log["agent"], log["rows_read"]) for log in logs if log["event"] == "progress"]
    per_line = int(LINE_EVERY * 10)
    assert shown == [("a", n) for n in (per_line, 2 * per_line, 250)]


def test_a_problem_is_told_when_it_appears_and_when_it_comes_back() -> None:
    trouble = Progress(problems=(Problem("/a/*.log", "matches no file"),))
    with capture_logs() as logs:
        view = LineView()
        for progress in (Progress(), trouble, trouble, Progress(), trouble):
            view.show(agents(a=progress), 0.0)
    assert [(log["place"], log["text"]) for log in logs if log["event"] == "problem"] == [
        ("/a/*.log", "matches no file")
    ] * 2


def test_a_problem_whose_numbers_change_is_the_same_problem() -> None:
    with capture_logs() as logs:
        view = LineView()
        for free in ("49.5", "49.4", "8"):
            view.show(
                agents(a=Progress(problems=(Problem("land.lake", f"safe mode; {free} GiB free"),))), 0.0
            )
    assert [log["text"] for log in logs] == ["safe mode; 49.5 GiB free"]


def test_the_table_on_a_terminal_and_log_lines_above_it() -> None:
    console = Console(record=True, force_terminal=True, width=120, file=open("/dev/null", "w"))  # noqa: SIM115
    view = LiveView(console)
    view.on_log(b"level=info event=[bold]row[/bold]")
    problem = Problem("p", "namenode is in [safe] mode")
    view.show(agents(land=Progress(1_000, 5, 900, lag=77, problems=(problem,))), 0.0)
    view.show(agents(land=Progress(3_000, 5, 900, lag=77, problems=(problem,))), 1.0)
    view.close()
    text = console.export_text()
    assert "event=[bold]row[/bold]" in text
    assert (
        "halt" in text
        and "3,000" in text
        and "2,000" in text
        and "77" in text
        and "namenode is in [safe] mode" in text
    )
