"""The pipelines that ship, and the README's: correct, exactly-once, and the local one run as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parent.parent
SHIPPED = sorted(path.name for path in (ROOT / "conf").glob("*.yaml"))


def tailrace(*arguments: str, cwd: Path, **environment: str) -> str:
    command = [sys.executable, "-m", "tailrace", *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", [*SHIPPED, "README.md"])
def test_each_route_is_exactly_once(name: str, tmp_path: Path) -> None:
    if name.endswith(".md"):
        (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
        name = "pipeline.yaml"
        (tmp_path / name).write_text(block)
    else:
        (tmp_path / name).write_text((ROOT / "conf" / name).read_text())
    assert f"{name}: correct: " in tailrace("validate", name, cwd=tmp_path)
    routes = [line for line in tailrace("explain", name, cwd=tmp_path).splitlines() if "->" in line]
    assert routes
    assert [line for line in routes if not line.endswith(": exactly-once")] == []


def test_files_to_parquet_runs_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "app.log").write_text("followed\n")
    spool = tmp_path / "incoming"
    spool.mkdir()
    (spool / "whole.txt").write_text("finished\n")
    environment = {"TAILRACE_LOGS": f"{tmp_path}/*.log", "TAILRACE_SPOOL": str(spool)}
    config = str(ROOT / "conf" / "files-to-parquet.yaml")
    for _ in range(2):
        tailrace("run", config, "--once", cwd=tmp_path, **environment)
        landed = [
            body
            for path in (tmp_path / "data/files-to-parquet/lake").glob("dt=*/*.parquet")
            for body in pq.read_table(path, columns=["body"]).column("body").to_pylist()
        ]
        assert sorted(landed) == ["finished", "followed"]
    assert [path.name for path in spool.iterdir()] == ["whole.txt.COMPLETED"]
