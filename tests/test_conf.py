"""The pipelines that ship, and the README's: correct, exactly-once, and the local one run as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tailrace.agents.plan import check, routes
from tailrace.config.load import parse
from tailrace.config.pipeline import parse_pipeline

ROOT = Path(__file__).parent.parent
SHIPPED = sorted(path.name for path in (ROOT / "conf").glob("*.yaml"))


@pytest.mark.parametrize("name", [*SHIPPED, "README.md"])
def test_each_route_is_exactly_once(name: str) -> None:
    text = (ROOT / "conf" / name).read_text() if name in SHIPPED else _first_block(ROOT / name)
    parsed = parse_pipeline(parse(text, name, {}))
    assert check(parsed) == [] and parsed.pipeline is not None
    found = routes(parsed.pipeline)
    assert found
    assert [str(route) for route in found if route.guarantee != "exactly-once"] == []


def _first_block(path: Path) -> str:
    (block,) = re.findall(r"```yaml\n(.*?)```", path.read_text(), re.DOTALL)
    return str(block)


def test_files_to_parquet_runs_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_text("followed\n")
    spool = tmp_path / "incoming"
    spool.mkdir()
    (spool / "whole.txt").write_text("finished\n")
    places = {"TAILRACE_LOGS": f"{tmp_path}/*.log", "TAILRACE_SPOOL": str(spool)}
    config = str(ROOT / "conf" / "files-to-parquet.yaml")
    command = [sys.executable, "-m", "tailrace", "run", config, "--once"]
    for _ in range(2):
        run = subprocess.run(
            command, cwd=tmp_path, env=os.environ | places, capture_output=True, text=True, timeout=120
        )
        assert run.returncode == 0, run.stderr
        landed = [
            body
            for path in (tmp_path / "data/files-to-parquet/lake").glob("dt=*/*.parquet")
            for body in pq.read_table(path, columns=["body"]).column("body").to_pylist()
        ]
        assert sorted(landed) == ["finished", "followed"]
    assert [path.name for path in spool.iterdir()] == ["whole.txt.COMPLETED"]
