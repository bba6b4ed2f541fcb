"""A landing agent as a process of its own: the parquet sink, driven as by the runner, by a seeded source.

`spawn` starts it in a child that a SIGKILL ends for real; `drive` does the same in this process.
"""

import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from tailrace import failpoint
from tailrace.clock import SystemClock
from tailrace.component import ALL, Context
from tailrace.errors import Fenced, Halt, Retry, Rewind
from tailrace.event import EventBatch, Partition
from tailrace.fs import FileSystem, LocalFileSystem
from tailrace.sinks.parquet.settings import ParquetSettings
from tailrace.sinks.parquet.sink import ParquetSink
from tests.support import kills, mutants
from tests.support.landing_stream import partitions

_ATTEMPTS = 30


@dataclass(frozen=True)
class Plan:
    """What a lander does. `directory` is shared by all landers of a test, `tag` is this one's."""

    directory: Path
    kind: str = "topic"
    seed: int = 0
    tag: str = "a"
    failpoints: str = ""
    every: int = 3
    """Batches of a partition between two commits."""
    root: str = ""
    ledger: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def lake(self) -> str:
        return self.root or str(self.directory / "lake")

    @property
    def ledger_url(self) -> str:
        return self.ledger or f"sqlite:///{self.directory}/ledger.db"

    @property
    def outcome(self) -> Path:
        return self.directory / f"outcome-{self.tag}.txt"


class GroupFile:
    """A `Membership` that is never thrown out; the group's offsets are a file, and outlive processes."""

    group, generation, member_id, instance_id = "land", 1, "m", None

    def __init__(self, path: Path) -> None:
        self._path = path

    def heartbeat(self) -> None:
        pass

    def offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, tuple[int, str]]:
        known = self.load()
        return {one: tuple(known[one.key]) for one in partitions if one.key in known}

    def load(self) -> dict[str, list]:
        return json.loads(self._path.read_text()) if self._path.exists() else {}

    def commit(self, positions: Mapping[Partition, int], stamp: str) -> None:
        known = self.load() | {one.key: [position, stamp] for one, position in positions.items()}
        aside = self._path.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps(known))
        aside.replace(self._path)


def make_sink(plan: Plan, fs: FileSystem | None = None, clock=None) -> ParquetSink:
    state = plan.directory / "state" / "land"
    state.mkdir(parents=True, exist_ok=True)
    settings = ParquetSettings(
        **{
            "type": "parquet",
            "channel": "c",
            "path": f"{plan.lake}/%{{topic}}/dt=%Y-%m-%d/hour=%H",
            "ledger": plan.ledger_url,
            "max_open_files": 2,
            "min_free": 0,
            **plan.settings,
        }
    )
    instance = "b" * 32
    context = Context(
        "p", "land", "lake", instance, state, clock=clock or SystemClock(), fs=fs or LocalFileSystem()
    )
    return ParquetSink(settings, context)


def drive(plan: Plan, sink: ParquetSink) -> None:
    """Lands everything there is. Raises Halt, Corrupt, and Fenced when it was fenced once too often."""
    streams = {one.partition: one for one in partitions(plan.kind, plan.seed)}
    group = GroupFile(plan.directory / "group.json")
    setbacks = 0
    _patiently(sink.open)
    while True:
        try:
            if plan.kind == "topic":
                records = _patiently(sink.acquire, list(streams), group)
            else:
                records = _patiently(sink.acquire, ALL)
                assert records == _patiently(sink.acquire, list(streams))
            group.commit({one: record.position for one, record in records.items()}, sink.stamp)
            todo = {one: stream.since(records.get(one)) for one, stream in streams.items()}
            while todo:
                todo = {one: rest for one, rest in todo.items() if _some(sink, rest, plan.every)}
                if committed := _patiently(sink.commit):
                    group.commit(committed, sink.stamp)
            return
        except (Rewind, Fenced):
            setbacks += 1
            if setbacks == _ATTEMPTS:
                raise
            sink.abort()
            time.sleep(0.01)


def _some(sink: ParquetSink, batches, count: int) -> bool:
    """False when there are no more."""
    for _ in range(count):
        batch: EventBatch | None = next(batches, None)
        if batch is None:
            return False
        _patiently(sink.write, batch)
        sink.due()
    return True


def _patiently(verb, *arguments):
    for _ in range(_ATTEMPTS):
        try:
            return verb(*arguments)
        except Retry as error:
            last = error
            time.sleep(0.01)
    raise last


def run(plan: Plan, fault: str) -> None:
    """The child's whole life; how it ended is in `plan.outcome`. fault: planted before anything else."""
    mutants.plant_for_good(fault)
    os.chdir(plan.directory)
    failpoint.arm(plan.failpoints)
    sink = make_sink(plan)
    try:
        drive(plan, sink)
        sink.close()
    except (Halt, Fenced, Retry) as error:
        plan.outcome.write_text(f"{type(error).__name__}: {error}")
        sys.exit(3)
    except BaseException:
        plan.outcome.write_text(traceback.format_exc())
        raise
    plan.outcome.write_text("done")


_children = multiprocessing.get_context("forkserver")
_children.set_forkserver_preload(["tests.support.lander"])


def spawn(plan: Plan) -> BaseProcess:
    plan.directory.mkdir(parents=True, exist_ok=True)
    plan.outcome.unlink(missing_ok=True)
    child = _children.Process(target=run, args=(plan, mutants.planted), daemon=True)
    child.failpoints = plan.failpoints
    child.start()
    return child


def wait(child: BaseProcess, timeout: float = 60) -> int:
    """Its exit code; minus the signal's number when one ended it."""
    child.join(timeout)
    if child.exitcode is None:
        child.kill()
        raise AssertionError("the lander did not end")
    kills.note(child.failpoints, child.exitcode)
    return child.exitcode


def wait_until_stopped(child: BaseProcess, timeout: float = 60) -> bool:
    """False when it ended without stopping (SIGSTOP)."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if child.exitcode is not None:
            return False
        try:
            if Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return True
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has just ended
        time.sleep(0.005)
    raise AssertionError("the lander neither stopped nor ended")
