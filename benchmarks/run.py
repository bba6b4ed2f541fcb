"""Tailrace against the script that a Python user would write (peer.py), on one broker and in one run:
`make bench`.

Each figure is rows a second from the first row read to the last acknowledgement or commit; the start of
processes is not in it. The peer's is the best of its three settings, ours the best of as many runs, in turns.
Prints the machine, a table of both with their ratio, and the peak memory of our processes, as Markdown.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.access_log import write_access_log
from benchmarks.machine import machine, versions
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
    """The log to read, and what was seen in all runs."""

    root: Path
    log: Path
    lines: int
    peaks: dict[str, float]

    def noted(self, watch: MemoryWatch) -> None:
        for kind, peak in watch.peaks.items():
            self.peaks[kind] = max(self.peaks.get(kind, 0.0), peak)

    @contextlib.contextmanager
    def fresh(self) -> "Iterator[Run]":
        """A new broker in an empty folder, which is gone afterwards: each run finds the same machine.

        Memory matters, too: what a virtual machine touches for the first time may cost a multiple, and here
        each run's page cache is the one that the run before it gave back.
        """
        with tempfile.TemporaryDirectory(dir=self.root) as folder, _broker(Path(folder) / "broker") as broker:
            bootstrap, watch = broker
            yield Run(self, Path(folder), bootstrap)
            self.noted(watch)


@dataclass(frozen=True)
class Run:
    """One broker, and the processes that are measured against it."""

    bench: Bench
    root: Path
    bootstrap: str

    def configure(self, name: str, parts: str, **values: object) -> Path:
        home = self.root / name
        home.mkdir()
        config = home / "pipeline.yaml"
        agents = parts.format(log=self.bench.log, home=home, name=name, topic="lines", **values)
        head = f"pipeline: {name}\nstate_dir: {home}/state\nkafka: {{bootstrap: '{self.bootstrap}'}}"
        config.write_text(f"{head}\nagents:{agents}")
        return config

    def start(self, config: Path, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tailrace", "run", str(config), "--json", *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def finish(self, process: subprocess.Popen[bytes], watch: MemoryWatch) -> dict[str, dict[str, float]]:
        """Agents' summaries by name."""
        out, _ = process.communicate(timeout=600)
        self.bench.noted(watch)
        if process.returncode:
            raise SystemExit(f"{process.args!r}: status {process.returncode}: {out.decode()}")
        return dict(json.loads(out)["agents"])

    def ours(self, name: str, parts: str, **values: object) -> dict[str, dict[str, float]]:
        """Runs agents once; their summaries by name."""
        process = self.start(self.configure(name, parts, **values), "--once")
        with MemoryWatch(process.pid) as watch:
            return self.finish(process, watch)

    def peer(
        self, half: str, path: Path, topic: str, setting: str, transactional: bool
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "benchmarks.peer", half, str(path), "--bootstrap", self.bootstrap]
        command += ["--topic", topic, "--setting", setting, "--rows", str(self.bench.lines)]
        return subprocess.Popen(command + ["--transactional"] * transactional, stdout=subprocess.PIPE)


Rates = tuple[list[float], list[float]]


def _own_rate(summary: dict[str, float]) -> float:
    return (summary["rows_landed"] + summary["dead_letters"]) / summary["busy_seconds"]


def _result(process: subprocess.Popen[bytes]) -> dict[str, float]:
    out, _ = process.communicate(timeout=600)
    if process.returncode:
        raise SystemExit(f"the peer ended with status {process.returncode}")
    return dict(json.loads(out))


def _rate(process: subprocess.Popen[bytes]) -> float:
    result = _result(process)
    return result["rows"] / (result["ended"] - result["began"])


def produce(bench: Bench, transactional: bool) -> Rates:
    """file -> broker: (ours, the peer's) in rows a second, of each run."""
    ours, peer = [], []
    for setting in PRODUCER_SETTINGS:
        with bench.fresh() as run:
            peer.append(_rate(run.peer("produce", bench.log, "peer", setting, transactional)))
        with bench.fresh() as run:
            ours.append(_own_rate(run.ours("collect", _COLLECT, acks=_ACKS[transactional])["collect"]))
    return ours, peer


def consume(bench: Bench, transactional: bool) -> Rates:
    """broker -> Parquet, both from a topic that ours wrote."""
    ours, peer = [], []
    for setting in PRODUCER_SETTINGS:
        with bench.fresh() as run:
            run.ours("collect", _COLLECT, acks=_ACKS[transactional])
            lake = run.root / "peer-lake"
            peer.append(_rate(run.peer("consume", lake, "lines", setting, transactional)))
            shutil.rmtree(lake)
            ours.append(_own_rate(run.ours("land", _LAND, isolation=_ISOLATION[transactional])["land"]))
    return ours, peer


def both(bench: Bench, transactional: bool) -> Rates:
    """All at once: from the first row read from the file to the last row landed."""
    ours, peer = [], []
    for setting in PRODUCER_SETTINGS:
        with bench.fresh() as run:
            _make_topic(run.bootstrap, "peer")
            halves = [
                run.peer("produce", bench.log, "peer", setting, transactional),
                run.peer("consume", run.root / "peer-lake", "peer", setting, transactional),
            ]
            wrote, landed = (_result(half) for half in halves)
            peer.append(landed["rows"] / (landed["ended"] - wrote["began"]))
        with bench.fresh() as run:
            ours.append(_both_of_ours(run, transactional))
    return ours, peer


def _both_of_ours(run: Run, transactional: bool) -> float:
    _make_topic(run.bootstrap, "lines")
    parts = _COLLECT + _LAND.replace("path:", "roll: {{idle: 50ms}}, path:")
    config = run.configure("both", parts, acks=_ACKS[transactional], isolation=_ISOLATION[transactional])
    began = time.perf_counter()
    process = run.start(config)
    with MemoryWatch(process.pid) as watch:
        while (rows := _landed(run.root / "both" / "lake")) < run.bench.lines:
            if process.poll() is not None or time.perf_counter() - began > 300:
                raise SystemExit(f"{rows} of {run.bench.lines} rows landed")
            time.sleep(0.1)
        process.terminate()
        agents = run.finish(process, watch)
    rows = agents["land"]["rows_landed"] + agents["land"]["dead_letters"]
    return 1000 * rows / (agents["land"]["last_commit"] - agents["collect"]["first_read"])


def _landed(lake: Path) -> int:
    """Rows in published files, dead letters included, from their footers."""
    import pyarrow.parquet as pq

    rows = 0
    for place, directories, names in os.walk(lake):
        directories[:] = [name for name in directories if name != "_staging"]  # it is emptied meanwhile
        shown = [Path(place, name) for name in names if name.endswith(".parquet")]
        rows += sum(pq.read_metadata(path).num_rows for path in shown)
    return rows


def _make_topic(bootstrap: str, topic: str) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(topic, 1)]).values():
        future.result(30)


def _table(rows: list[tuple[str, str, Rates]]) -> Iterator[str]:
    """Lines of Markdown; the slowest run in brackets."""
    yield "| path | mode | Tailrace, rows/s | script, rows/s | ratio |"
    yield "|---|---|---|---|---|"
    for path, mode, rates in rows:
        ours, peer = (f"{max(of_one):,.0f} ({min(of_one):,.0f})" for of_one in rates)
        yield f"| {path} | {mode} | {ours} | {peer} | {max(rates[0]) / max(rates[1]):.1f} |"


PARTS: dict[str, Callable[[Bench, bool], Rates]] = {
    "file → broker": produce,
    "broker → Parquet": consume,
    "all at once": both,
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
        log = Path(folder) / "access.log"
        write_access_log(log, arguments.lines)
        bench = Bench(Path(folder), log, arguments.lines, {})
        rows: list[tuple[str, str, Rates]] = []
        for mode in arguments.modes:
            for path, measure in PARTS.items():
                print(f"{path}, {mode} ...", file=sys.stderr, flush=True)
                rows.append((path, mode, measure(bench, mode == "transactions")))
        peaks = ", ".join(f"{name} {peak:.0f}" for name, peak in sorted(bench.peaks.items()))
        print(
            f"{machine()}\n{versions()}\n", *_table(rows), f"\nPeak anonymous memory, MiB: {peaks}", sep="\n"
        )


if __name__ == "__main__":
    main()
