"""Tailrace against the script that a Python user would write (peer.py), on one broker and in one run:
`make bench`.

Each figure is rows a second from the first row read to the last acknowledgement or commit. The peer's is
the best of its
three settings, ours the best of as many runs. Prints a table of both and their ratio, and the peak memory
of our processes.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.access_log import write_access_log
from benchmarks.memory import MemoryWatch
from benchmarks.peer import PRODUCER_SETTINGS

_COLLECT = """
  collect:
    sources: {{file: {{type: tail, files: ["{log}"], channels: [c]}}}}
    channels: {{c: {{type: memory}}}}
    sinks: {{wire: {{type: kafka, channel: c, topic: "{topic}", {acks}}}}}
"""
_LAND = """
  land:
    sources: {{topic: {{type: kafka, topics: ["{topic}"], group: "{name}", {isolation}, channels: [c]}}}}
    channels: {{c: {{type: memory}}}}
    sinks: {{lake: {{type: parquet, channel: c, path: "{home}/lake/dt=%Y-%m-%d"}}}}
"""
_ACKS = {False: "transactional: false, acks: 1", True: "transactional: true"}
_ISOLATION = {False: "isolation: read_uncommitted", True: "isolation: read_committed"}


@dataclass(frozen=True)
class Bench:
    """One broker, one log, one folder for everything."""

    root: Path
    log: Path
    bootstrap: str
    lines: int
    peaks: dict[str, float]

    def ours(self, name: str, parts: str, **values: object) -> dict[str, dict[str, float]]:
        """Runs agents once; their summaries by name."""
        home = self.root / name
        home.mkdir()
        config = home / "pipeline.yaml"
        values = {"log": self.log, "home": home, "name": name, **values}
        config.write_text(
            f"pipeline: {name}\nstate_dir: {home}/state\nkafka: {{bootstrap: '{self.bootstrap}'}}\nagents:"
            + parts.format(**values)
        )
        command = [sys.executable, "-m", "tailrace", "run", str(config), "--once", "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        with process, MemoryWatch(process.pid) as watch:
            out, _ = process.communicate(timeout=600)
        for kind, peak in watch.peaks.items():
            self.peaks[kind] = max(self.peaks.get(kind, 0.0), peak)
        if process.returncode:
            raise SystemExit(f"{name}: status {process.returncode}: {out.decode()}")
        return dict(json.loads(out)["agents"])

    def start_peer(
        self, half: str, path: Path, topic: str, setting: str, transactional: bool
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "benchmarks.peer", half, str(path), "--bootstrap", self.bootstrap]
        command += ["--topic", topic, "--setting", setting, "--rows", str(self.lines)]
        return subprocess.Popen(command + ["--transactional"] * transactional, stdout=subprocess.PIPE)

    def peer(self, half: str, path: Path, topic: str, setting: str, transactional: bool) -> float:
        return _rate(self.start_peer(half, path, topic, setting, transactional))


def _rate(process: subprocess.Popen[bytes]) -> float:
    out, _ = process.communicate(timeout=600)
    if process.returncode:
        raise SystemExit(f"the peer ended with status {process.returncode}")
    result = json.loads(out)
    return float(result["rows"] / result["seconds"])


def produce(bench: Bench, transactional: bool) -> tuple[float, float]:
    """file -> broker: (ours, peer) in rows a second."""
    kind = "txn" if transactional else "acks1"
    ours, peer = [], []
    for turn, setting in enumerate(PRODUCER_SETTINGS):
        peer.append(bench.peer("produce", bench.log, f"peer-{kind}-{setting}", setting, transactional))
        topic = f"ours-{kind}-{turn}"
        summary = bench.ours(f"produce-{kind}-{turn}", _COLLECT, topic=topic, acks=_ACKS[transactional])[
            "collect"
        ]
        ours.append(summary["rows_landed"] / summary["busy_seconds"])
    return max(ours), max(peer)


def consume(bench: Bench, transactional: bool) -> tuple[float, float]:
    """broker -> Parquet, both from the topic that ours wrote."""
    kind = "txn" if transactional else "acks1"
    topic = f"ours-{kind}-0"
    ours, peer = [], []
    for turn, setting in enumerate(PRODUCER_SETTINGS):
        peer.append(
            bench.peer("consume", bench.root / f"peer-lake-{kind}-{setting}", topic, setting, transactional)
        )
        name = f"consume-{kind}-{turn}"
        summary = bench.ours(name, _LAND, topic=topic, isolation=_ISOLATION[transactional])["land"]
        ours.append((summary["rows_landed"] + summary["dead_letters"]) / summary["busy_seconds"])
    return max(ours), max(peer)


def both(bench: Bench, transactional: bool) -> tuple[float, float]:
    """All at once, rows a second from the first start to the last row landed, the start of all processes
    included.
    """
    kind = "txn" if transactional else "acks1"
    ours, peer = [], []
    for turn, setting in enumerate(PRODUCER_SETTINGS):
        topic = f"peer-both-{kind}-{setting}"
        _make_topic(bench.bootstrap, topic)
        began = time.perf_counter()
        halves = [
            bench.start_peer("produce", bench.log, topic, setting, transactional),
            bench.start_peer(
                "consume", bench.root / f"peer-both-{kind}-{setting}", topic, setting, transactional
            ),
        ]
        for half in halves:
            _rate(half)
        peer.append(bench.lines / (time.perf_counter() - began))
        ours.append(_both_of_ours(bench, f"both-{kind}-{turn}", transactional))
    return max(ours), max(peer)


def _both_of_ours(bench: Bench, name: str, transactional: bool) -> float:
    home = bench.root / name
    home.mkdir()
    config = home / "pipeline.yaml"
    values = {"log": bench.log, "home": home, "name": name, "topic": name}
    parts = (_COLLECT + _LAND.replace("path:", "roll: {{interval: 2s}}, path:")).format(
        **values, acks=_ACKS[transactional], isolation=_ISOLATION[transactional]
    )
    head = f"pipeline: {name}\nstate_dir: {home}/state\nkafka: {{bootstrap: '{bench.bootstrap}'}}"
    config.write_text(f"{head}\nagents:{parts}")
    _make_topic(bench.bootstrap, name)
    began = time.perf_counter()
    command = [sys.executable, "-m", "tailrace", "run", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        with MemoryWatch(process.pid) as watch:
            while _landed(home / "lake") < bench.lines:
                if process.poll() is not None or time.perf_counter() - began > 300:
                    raise SystemExit(f"{name}: {_landed(home / 'lake')} of {bench.lines} rows landed")
                time.sleep(0.05)
            seconds = time.perf_counter() - began
        process.terminate()
    for kind, peak in watch.peaks.items():
        bench.peaks[kind] = max(bench.peaks.get(kind, 0.0), peak)
    return bench.lines / seconds


def _landed(lake: Path) -> int:
    """Rows in published files, dead letters included, from their footers."""
    import pyarrow.parquet as pq

    return sum(
        pq.read_metadata(path).num_rows for path in lake.rglob("*.parquet") if "_staging" not in path.parts
    )


def _make_topic(bootstrap: str, topic: str) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(topic, 1)]).values():
        future.result(30)


def _table(rows: list[tuple[str, str, float, float]]) -> None:
    print(f"{'path':<20} {'mode':<14} {'tailrace rows/s':>16} {'script rows/s':>14} {'ratio':>7}")
    for path, mode, ours, peer in rows:
        print(f"{path:<20} {mode:<14} {ours:>16,.0f} {peer:>14,.0f} {ours / peer:>6.1f}x", flush=True)


PARTS: dict[str, tuple[str, Callable[[Bench, bool], tuple[float, float]]]] = {
    "produce": ("file -> broker", produce),
    "consume": ("broker -> Parquet", consume),
    "both": ("all at once", both),
}


@contextlib.contextmanager
def _broker(data_dir: Path) -> Iterator[tuple[str, MemoryWatch]]:
    """A broker of its own: (address, its memory). It ends with this process, however that ends."""
    settings = json.dumps({"listen": "127.0.0.1:0", "data_dir": str(data_dir)})
    theirs, ours = os.pipe()
    command = [sys.executable, "-m", "tailrace.broker", "--settings", settings, "--parent-fd", str(theirs)]
    broker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pass_fds=(theirs,))
    os.close(theirs)
    try:
        assert broker.stdout is not None
        ready = json.loads(broker.stdout.readline())["ready"]
        with MemoryWatch(broker.pid) as watch:
            yield ready, watch
    finally:
        os.close(ours)
        broker.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lines", type=int, default=5_000_000)
    modes = ["acks1", "transactions"]
    parser.add_argument("--modes", nargs="+", choices=modes, default=modes)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as folder:
        root = Path(folder)
        log = root / "access.log"
        write_access_log(log, arguments.lines)
        rows = []
        peaks: dict[str, float] = {}
        with _broker(root / "broker") as (bootstrap, memory):
            bench = Bench(root, log, bootstrap, arguments.lines, peaks)
            for mode in arguments.modes:
                for path, measure in PARTS.values():
                    rows.append((path, mode, *measure(bench, mode == "transactions")))
                    _table(rows[-1:])
        peaks["broker"] = max(memory.peaks.values())
        print()
        _table(rows)
        print("\npeak anonymous memory, MiB:", {name: round(peak) for name, peak in peaks.items()})


if __name__ == "__main__":
    main()
