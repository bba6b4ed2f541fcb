"""What `tailrace peek` shows of a folder of Parquet files."""

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from typer.testing import CliRunner

from tailrace.cli import app
from tailrace.peek import first_rows, table


def _land(path: Path, bodies: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    moment = datetime.datetime(2026, 1, 1, 9, 30, tzinfo=datetime.UTC)
    columns = {
        "body": bodies,
        "timestamp": [moment] * len(bodies),
        "topic": ["logs"] * len(bodies),
        "partition": [0] * len(bodies),
        "offset": list(range(len(bodies))),
    }
    pq.write_table(pa.table(columns), path)


def test_shows_landed_rows_and_no_dead_or_staged_ones(tmp_path: Path) -> None:
    _land(tmp_path / "dt=2026-01-01" / "a.parquet", ["one", "two", "three"])
    _land(tmp_path / "_dead" / "b.parquet", ["dead"])
    _land(tmp_path / "_staging" / "c.parquet", ["staged"])
    assert [row["body"] for row in first_rows(tmp_path, 10)] == ["one", "two", "three"]
    assert [row["body"] for row in first_rows(tmp_path, 2)] == ["one", "two"]


def test_rows_are_shown_with_their_origin(tmp_path: Path) -> None:
    _land(tmp_path / "a.parquet", ["one"])
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table(first_rows(tmp_path, 1)))
    assert "logs-0@0" in (text := console.export_text()) and "09:30:00" in text and "one" in text


def test_an_empty_folder_is_an_empty_table(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["peek", str(tmp_path)])
    assert done.exit_code == 0 and "body" in done.output
