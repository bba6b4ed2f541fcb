"""Five million lines in one command: what lands equals the file; again lands nothing; an append lands itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.access_log import write_access_log
from tests.support.landed import landed_lines

_LINES = 5_000_000
_PIPELINE = """
pipeline: five-million
state_dir: {root}/state
broker: {{listen: "127.0.0.1:0", data_dir: "{root}/broker", topics: {{lines: {{partitions: 1}}}}}}
agents:
  collect:
    sources: {{file: {{type: tail, files: ["{root}/access.log"], channels: [c]}}}}
    channels: {{c: {{type: memory}}}}
    sinks: {{wire: {{type: kafka, channel: c, topic: lines}}}}
  land:
    sources: {{lines: {{type: kafka, topics: [lines], group: land, channels: [c]}}}}
    channels: {{c: {{type: memory}}}}
    sinks: {{lake: {{type: parquet, channel: c, path: "{root}/lake/dt=%Y-%m-%d"}}}}
"""


def _run_once(config: Path) -> dict[str, dict[str, int]]:
    command = [sys.executable, "-m", "tailrace", "run", str(config), "--once", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)["agents"]


@pytest.mark.interop
@pytest.mark.timeout(900)
def test_five_million_lines_land_once_each(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    write_access_log(log, _LINES)
    config = tmp_path / "pipeline.yaml"
    config.write_text(_PIPELINE.format(root=tmp_path))

    first = _run_once(config)
    lines = log.read_bytes().split(b"\n")[:-1]
    assert len(lines) == _LINES
    landed = landed_lines(tmp_path / "lake")
    assert landed == lines
    print({name: first["land"][name] for name in ("rows_landed", "dead_letters", "files")})

    again = _run_once(config)
    assert (again["collect"]["rows_read"], again["land"]["rows_landed"]) == (0, 0)

    appended = [b"appended line %d" % number for number in range(1000)]
    with log.open("ab") as out:
        out.write(b"".join(line + b"\n" for line in appended))
    last = _run_once(config)
    assert (last["collect"]["rows_read"], last["land"]["rows_landed"]) == (1000, 1000)
    assert landed_lines(tmp_path / "lake")[_LINES:] == appended
