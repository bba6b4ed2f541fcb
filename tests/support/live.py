"""A live pipeline under fire: a real supervisor and its children, a rotating writer, and SIGKILLs at random.

file -> (built-in broker | Apache Kafka) -> Parquet; broker or Kafka, agents and supervisor are all killed. The
verdict is read from the Parquet files.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.support.kafka_server import KafkaServer
from tests.support.lake import Lake
from tests.support.rotating_writer import STYLES, RotatingWriter

_PIPELINE = """
pipeline: live
state_dir: {root}/state
restart: {{initial: 100ms, max: 1s}}
{broker}
agents:
  collect:
    sources:
      files: {{type: tail, files: ["{root}/logs/*.log*"], rescan: 1s, channels: [c]}}
    channels:
      c: {{type: {channel}}}
    sinks:
      wire: {{type: kafka, channel: c, topic: live}}
  land:
    sources:
      live: {{type: kafka, topics: [live], group: land, channels: [c]}}
    channels:
      c: {{type: memory}}
    sinks:
      lake:
        type: parquet
        channel: c
        path: "{lake}/dt=%Y-%m-%d"
        ledger: "{ledger}"
        roll: {{interval: 1s}}
"""
_BUILT_IN = (
    "broker: {{listen: '127.0.0.1:0', data_dir: '{root}/broker', topics: {{live: {{partitions: 3}}}}}}"
)


@dataclass
class LivePipeline:
    root: Path
    seed: int
    kafka: KafkaServer | None = None
    """Instead of the built-in broker; it is up."""
    channel: str = "memory"
    kills: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self.lake = Lake(self.root / "lake")
        (self.root / "logs").mkdir(parents=True)
        broker = (
            f"kafka: {{bootstrap: '{self.kafka.bootstrap}'}}"
            if self.kafka
            else _BUILT_IN.format(root=self.root)
        )
        text = _PIPELINE.format(
            root=self.root,
            broker=broker,
            channel=self.channel,
            lake=self.root / "lake",
            ledger=f"sqlite:///{self.root}/ledger.db",
        )
        self.config = self.root / "live.yaml"
        self.config.write_text(text)
        self.writer = RotatingWriter(self.root / "logs", self.seed, self._landed)
        self._landed_at = 0.0
        self._supervisor: subprocess.Popen[bytes] | None = None

    def _landed(self, style: str) -> int:
        if time.monotonic() - self._landed_at > 1:
            self.lake.refresh()
            self._landed_at = time.monotonic()
        return self.lake.next_missing(style)

    def start(self) -> None:
        with (self.root / "tailrace.log").open("ab") as log:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-m", "tailrace", "run", str(self.config)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def children(self) -> list[psutil.Process]:
        assert self._supervisor is not None
        return psutil.Process(self._supervisor.pid).children(recursive=True)

    def kill_some(self) -> None:
        """One child, or a whole group of them; a Kafka counts as one, and is started again as it would be."""
        victims: list[psutil.Process | KafkaServer] = [*self.children()]
        if self.kafka is not None:
            victims.append(self.kafka)
        if not victims:
            return
        count = 1 if self._random.random() < 0.7 else self._random.randrange(1, len(victims) + 1)
        chosen = self._random.sample(victims, count)
        for victim in chosen:
            if isinstance(victim, KafkaServer):
                victim.kill()
                self.kills.append("kafka")
            else:
                self._kill(victim)
        if self.kafka in chosen:
            self.kafka.start()

    def kill_supervisor(self) -> None:
        """Kills it, waits until no child of it is left, and starts it again."""
        assert self._supervisor is not None
        children = self.children()
        self._supervisor.kill()
        self._supervisor.wait()
        self.kills.append("supervisor")
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive, f"orphans: {[child.cmdline() for child in alive]}"
        self.start()

    def _kill(self, child: psutil.Process) -> None:
        try:
            name = child.cmdline()[2]
            child.send_signal(signal.SIGKILL)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            return
        self.kills.append(name)

    def wait_for_progress(self, seconds: float) -> None:
        """Until a random moment within `seconds`; the supervisor has to live."""
        assert self._supervisor is not None
        time.sleep(self._random.random() * seconds)
        assert self._supervisor.poll() is None, f"the supervisor ended: {self.tail_of_log()}"

    def settle(self, written: dict[str, int], seconds: float = 90) -> None:
        """Returns when every written line is there; fails after `seconds` without a new row."""
        last_change, seen = time.monotonic(), -1
        while any(self.lake.next_missing(style) < written[style] for style in STYLES):
            self.lake.refresh()
            now = sum(counter.total() for counter in self.lake.numbers.values())
            if now != seen:
                last_change, seen = time.monotonic(), now
            if time.monotonic() - last_change > seconds:
                raise AssertionError(
                    f"no new row for {seconds} s: {self.lake.verdict(written)}\n{self.tail_of_log()}"
                )
            time.sleep(0.2)

    def stop(self) -> int:
        """SIGTERM; the status it ends with."""
        assert self._supervisor is not None
        children = self.children()
        self._supervisor.terminate()
        try:
            status = self._supervisor.wait(timeout=30)
        finally:
            if self._supervisor.poll() is None:
                self._supervisor.kill()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive, f"orphans: {[child.cmdline() for child in alive]}"
        return status

    def end(self) -> None:
        """Whatever state it is in: nothing of it is left running."""
        if self._supervisor is not None and self._supervisor.poll() is None:
            self._supervisor.kill()
            self._supervisor.wait()

    def tail_of_log(self) -> str:
        return (self.root / "tailrace.log").read_text(errors="replace")[-6000:]


def run_under_fire(pipeline: LivePipeline, kills: int, pace: float = 3.0) -> None:
    """Writes, rotates and kills until `kills` processes are dead, settles, and gives the verdict."""
    pipeline.start()
    pipeline.writer.start()
    try:
        pipeline.wait_for_progress(pace)
        while len(pipeline.kills) < kills:
            pipeline.wait_for_progress(pace)
            if pipeline.kills.count("supervisor") < len(pipeline.kills) // 10:
                pipeline.kill_supervisor()
            else:
                pipeline.kill_some()
    finally:
        written = pipeline.writer.stop()
    try:
        pipeline.settle(written)
        status = pipeline.stop()
        pipeline.lake.refresh()
        verdict = pipeline.lake.verdict(written)
        print(
            f"seed {pipeline.seed}: {len(pipeline.kills)} kills {dict(Counter(pipeline.kills))}, {sum(written.values())} lines, "
            f"rotations {pipeline.writer.rotations}, status {status}: {verdict or 'each exactly once'}"
        )
        assert not verdict, verdict
        assert status == 0, pipeline.tail_of_log()
    finally:
        pipeline.end()


def seed_from_environment(default: int) -> int:
    """TAILRACE_SEED repeats a run."""
    return int(os.environ.get("TAILRACE_SEED", default))
