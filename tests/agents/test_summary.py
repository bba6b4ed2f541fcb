"""What a run ends with: status, table, JSON."""

import json

import pytest
from rich.console import Console

from tailrace.agents.report import Ended, How, Progress, bounded, from_line, to_line
from tailrace.agents.summary import AgentSummary, Summary, show
from tailrace.component import Problem


def one(how: How | None = "finished", progress: Progress | None = None) -> Summary:
    return Summary({"a": AgentSummary(how, "because", 2.0, 0, progress or Progress())}, 3.0)


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ("finished", 0), ("stopped", 0), ("unfinished", 0), (None, 0),
        ("halt", 1), ("corrupt", 1), ("config", 78), ("crash", 70),
    ],
)  # fmt: skip
def test_the_status_follows_from_how_agents_ended(how: How | None, status: int) -> None:
    assert one(how).status == status


def test_a_failed_file_is_status_1_and_a_warning_is_not() -> None:
    assert one(progress=Progress(problems=(Problem("/a", "unreadable", failed=True),))).status == 1
    assert one(progress=Progress(problems=(Problem("/a", "unreadable"),))).status == 0


def test_what_is_not_finished_in_time_is_status_75() -> None:
    assert Summary({}, 1.0, ["a: up"]).status == 75


def test_the_table_has_counts_rate_and_what_a_person_should_know() -> None:
    progress = Progress(
        1_234_567, 50_000_000, 1_234_000, 567, 3, problems=(Problem("/x/*.log", "matches no file"),)
    )
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show(
        Summary(
            {"land": AgentSummary("halt", "the ledger is another's", 2.0, 0, progress)}, 2.0, ["land: up"]
        ),
        console,
    )
    lines = console.export_text().splitlines()
    assert lines[0].split("  ")[0].strip() == "agent"
    assert lines[2].split() == ["land", "1,234,567", "1,234,000", "567", "3", "2.0", "25.0"]
    assert lines[3:] == [
        "warning: /x/*.log: matches no file",
        "halt: land: the ledger is another's",
        "not finished: land: up",
    ]


def test_json_is_json() -> None:
    progress = Progress(10, 2_000_000, 9, 1, 1, problems=(Problem("p", "t"),))
    data = json.loads(json.dumps(one(progress=progress).to_json()))
    assert data["status"] == 0
    agent = data["agents"]["a"]
    assert (agent["rows_read"], agent["mb_per_second"], agent["how"]) == (10, 1.0, "finished")
    assert agent["problems"] == [{"place": "p", "text": "t", "failed": False}]


@pytest.mark.parametrize(
    "report",
    [
        Progress(1, 2, 3, 4, 5, 6.5, 7, 8, 9, 10, (Problem("p", "t", True),)),
        Progress(),
        Ended("halt", "no\nlonger"),
    ],
)
def test_reports_come_back_from_a_line_as_they_were(report: Progress | Ended) -> None:
    line = to_line(report)
    assert line.count("\n") == 1
    back = from_line(line)
    assert back == report or (isinstance(report, Progress) and back == report.plus(Progress()))


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"3", b'{"progress": 1}', b'{"ended": {"x": 1}}', b"\xff", b"null"]
)
def test_what_is_no_report_is_nothing(line: bytes) -> None:
    assert from_line(line) is None


def test_counters_add_up_over_restarts() -> None:
    total = Progress(1, 1, 1, 1, 1, rows_waiting=9, lag=9).plus(
        Progress(10, 20, 30, 40, 50, rows_waiting=7, lag=7)
    )
    assert total == Progress(11, 21, 31, 41, 51, rows_waiting=9, lag=9)


def test_a_thousand_problems_are_told_as_a_hundred_failures_first() -> None:
    problems = [Problem(f"/{n}", "unreadable", failed=n == 999) for n in range(1000)]
    told = bounded(problems)
    assert len(told) == 101
    assert told[0] == Problem("/999", "unreadable", failed=True)
    assert told[-1] == Problem("and", "900 more problems; the log has them")
    assert bounded(problems[:100]) == problems[:100]
