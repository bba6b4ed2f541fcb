"""One pipeline from a directory of logs through the built-in broker into Parquet, and the faults of its surroundings.

Others stand where their parts are: a topic deleted under an agent (tests/sources/test_kafka.py,
tests/sinks/parquet/test_trouble.py), HDFS in safe mode or not reached (tests/crash/test_landing_hdfs.py,
tests/interop/test_pipeline_on_hdfs.py), a newer data directory (tests/agents/test_broker_runs.py), every mistake of a
configuration at once (tests/config/test_wrong_configurations.py).
"""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.landed import landed_lines
from tests.support.running import Tailrace, eventually

_PIPELINE = """
pipeline: {pipeline}
state_dir: "{state}"
restart: {{initial: 100ms, max: 1s}}
broker: {{listen: "127.0.0.1:0", data_dir: "{broker}", topics: {{lines: {{partitions: 1}}}}}}
agents:
  collect:
    sources: {{files: {{type: tail, files: ["{logs}/*.log"{more}], rescan: 200ms, channels: [c]}}}}
    channels: {{c: {{type: memory}}}}
    sinks: {{wire: {{type: kafka, channel: c, topic: lines, linger: 50ms}}}}
  land:
    sources: {{lines: {{type: kafka, topics: [lines], group: land, channels: [c]}}}}
    channels: {{c: {{type: memory}}}}
    sinks: {{lake: {{type: parquet, channel: c, path: "{lake}/all", roll: {{idle: 200ms}}}}}}
"""


@dataclass
class World:
    """Where everything is; a test moves a part of it to where it fails."""

    root: Path
    logs: Path = field(init=False)
    broker: Path = field(init=False)
    lake: Path = field(init=False)
    state: Path = field(init=False)
    pipeline: str = "faults"
    more: str = ""
    failpoints: str = ""
    written: list[bytes] = field(default_factory=list)
    runs: list[Tailrace] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.logs, self.broker = self.root / "logs", self.root / "broker"
        self.lake, self.state = self.root / "lake", self.root / "state"

    def write(self, name: str, count: int) -> None:
        """Appends numbered lines of about 100 bytes to a log."""
        first = len(self.written)
        lines = [b"%s %07d %s" % (name.encode(), n, b"x" * 80) for n in range(first, first + count)]
        self.logs.mkdir(exist_ok=True)
        with (self.logs / name).open("ab") as log:
            log.write(b"".join(line + b"\n" for line in lines))
        self.written += lines

    def start(self, *arguments: str) -> Tailrace:
        places = {
            name: getattr(self, name) for name in ("pipeline", "logs", "broker", "lake", "state", "more")
        }
        text = _PIPELINE.format(**places)
        self.runs.append(Tailrace(self.root, text, *arguments, failpoints=self.failpoints))
        return self.runs[-1]

    def landed(self) -> list[bytes]:
        return landed_lines(self.lake)

    def all_land(self) -> None:
        """Waits until each written line is there, and fails when one is there twice."""
        eventually(
            lambda: len(self.landed()) >= len(self.written),
            lambda: f"{len(self.landed())} of {len(self.written)} lines: {self.runs[-1].log[-3000:]}",
        )
        assert sorted(self.landed()) == sorted(self.written)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    for run in made.runs:
        run.end()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 96 MiB of its own."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def fill() -> Callable[[Path], Path]:
    """fill(directory): takes all that is left of its disk; the file to delete when there shall be room again."""

    def take(directory: Path) -> Path:
        ballast = directory / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in (2**20, 4096):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue
        return ballast

    return take
