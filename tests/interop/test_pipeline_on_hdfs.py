"""The pipeline on a real HDFS with its ledger in a real PostgreSQL: landing agents killed at each state, the
namenode restarted in the middle, and what is there read back through WebHDFS.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from tests.crash.test_landing import WAYS
from tests.support.hdfs_server import HdfsServer, running_hdfs
from tests.support.lake import HdfsFolder, Lake
from tests.support.ports import free_port
from tests.support.postgres import running_postgres
from tests.support.rotating_writer import STYLES, RotatingWriter
from tests.support.running import Tailrace, eventually
from tests.support.source_places import failpoints

pytestmark = pytest.mark.interop

LANDERS = 3
"""Landing agents, each with a group and a lake of its own: the states are shared out among them."""
NAMES = [
    name
    for name in failpoints("sinks/ledger", "sinks/parquet", "sinks/stores/webhdfs.py")
    if name.startswith(("landing.", "ledger.decide.", "publish.", "store."))
]
AT_ITS_START = ("landing.after_acquire", "landing.after_recover")
COLLECT = """
pipeline: hdfs
state_dir: {root}/state
broker: {{listen: "127.0.0.1:{port}", data_dir: "{root}/broker", topics: {{live: {{partitions: 3}}}}}}
agents:
  collect:
    sources: {{files: {{type: tail, files: ["{root}/logs/*.log*"], rescan: 1s, channels: [c]}}}}
    channels: {{c: {{type: memory}}}}
    sinks: {{wire: {{type: kafka, channel: c, topic: live}}}}
"""
LAND = """
pipeline: hdfs
state_dir: {root}/state
restart: {{initial: 100ms, max: 1s}}
kafka: {{bootstrap: "127.0.0.1:{port}"}}
agents:
  {name}:
    sources: {{live: {{type: kafka, topics: [live], group: {name}, channels: [c]}}}}
    channels: {{c: {{type: memory}}}}
    sinks:
      lake:
        type: parquet
        channel: c
        path: "{hdfs}/{name}/dt=%Y-%m-%d"
        user: root
        timeout: 10s
        ledger: "{ledger}"
        roll: {{interval: 500ms}}
"""
STRAIGHT = """
pipeline: straight
state_dir: {root}/state
agents:
  land:
    sources: {{file: {{type: tail, files: ["{root}/app.log"], channels: [c]}}}}
    channels: {{c: {{type: memory}}}}
    sinks:
      lake:
        type: parquet
        channel: c
        path: "{hdfs}/straight/dt=%Y-%m-%d"
        user: root
        roll: {{interval: 500ms}}
"""


@pytest.fixture(scope="module")
def hdfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HdfsServer]:
    with running_hdfs(tmp_path_factory.mktemp("hdfs")) as server:
        yield server


class Lander:
    """One landing agent under a supervisor of its own, and what it has landed."""

    def __init__(self, root: Path, name: str, text: str, hdfs: HdfsServer) -> None:
        self.name = name
        self.killed: list[str] = []
        self.lake = Lake(HdfsFolder(hdfs.client(), f"/{name}"))
        self.directory = root / name
        self.directory.mkdir()
        self._text = text
        self._run: Tailrace | None = None

    def start(self, armed: str = "") -> Tailrace:
        self._run = Tailrace(self.directory, self._text, failpoints=armed)
        return self._run

    def die_at(self, names: Sequence[str]) -> None:
        """At each: killed there, started again by its supervisor, and then killed together with that."""
        for name in names:
            beside, _ = WAYS.get(name, ("", ""))
            passing = 1 if name in WAYS or name in AT_ITS_START else 2
            deaths = self._deaths()
            run = self.start(f"{beside};{name}=kill@{passing}")
            self._wait_for(lambda deaths=deaths: self._deaths() > deaths, f"killed at {name}")
            self._wait_for(run.children, f"started again after {name}")
            run.end()
            self.killed.append(name)

    def _deaths(self) -> int:
        return 0 if self._run is None else self._run.log.count("killed by signal 9")

    def _wait_for(self, look: Callable[[], object], what: str) -> None:
        assert self._run is not None
        run = self._run
        eventually(look, lambda: f"{self.name}: {what}: {run.log[-5000:]}", deadline=120, every=0.1)

    def stop(self) -> None:
        assert self._run is not None
        self._run.process.terminate()
        assert (status := self._run.wait()) == 0, f"status {status}: {self._run.log[-5000:]}"

    def end(self) -> None:
        if self._run is not None:
            self._run.end()


@pytest.mark.timeout(500)
def test_killed_at_each_state_beside_a_namenode_that_restarts(tmp_path: Path, hdfs: HdfsServer) -> None:
    (tmp_path / "logs").mkdir()
    with running_postgres() as postgres:
        known = {
            "root": tmp_path,
            "port": free_port(),
            "hdfs": hdfs.url,
            "ledger": postgres.create_database("ledger"),
        }
        names = [f"land-{number}" for number in range(LANDERS)]
        landers = [Lander(tmp_path, name, LAND.format(name=name, **known), hdfs) for name in names]
        collect = Tailrace(tmp_path, COLLECT.format(**known))
        writer = RotatingWriter(
            tmp_path / "logs", 6, lambda style: landed_everywhere(landers, style), pause=0.1
        )
        writer.start()
        try:
            kill_and_restart_the_namenode(landers, hdfs)
            for lander in landers:
                lander.start()
            written = writer.stop()
            settle(landers, written)
            for lander in landers:
                lander.stop()
            collect.process.terminate()
            assert collect.wait() == 0, collect.log[-5000:]
            for lander in landers:
                there = Lake(HdfsFolder(hdfs.client(), f"/{lander.name}"))
                there.refresh()
                assert not (verdict := there.verdict(written)), f"{lander.name}: {verdict}"
                assert there.staged() == []
            killed = [name for lander in landers for name in lander.killed]
            assert sorted(killed) == NAMES
            print(f"killed at each of {len(killed)} states, {sum(written.values())} lines in {LANDERS} lakes")
        finally:
            writer.stop()
            for run in (*landers, collect):
                run.end()


def kill_and_restart_the_namenode(landers: Sequence[Lander], hdfs: HdfsServer) -> None:
    """All landers die at their share of the states; half-way the namenode is killed and started again."""
    restarted = False
    with ThreadPoolExecutor(LANDERS) as pool:
        dying = [pool.submit(lander.die_at, NAMES[at::LANDERS]) for at, lander in enumerate(landers)]
        while wait(dying, timeout=1).not_done:
            if not restarted and sum(len(lander.killed) for lander in landers) >= len(NAMES) // 2:
                hdfs.kill_namenode()
                hdfs.start_namenode()
                restarted = True
            for lander in landers:
                lander.lake.refresh()
        for one in dying:
            one.result()
    assert restarted


def landed_everywhere(landers: Sequence[Lander], style: str) -> int:
    """Lines of a style that every lake had at its last refresh."""
    return min(lander.lake.next_missing(style) for lander in landers)


def settle(landers: Sequence[Lander], written: dict[str, int]) -> None:
    def landed() -> bool:
        for lander in landers:
            lander.lake.refresh()
        return all(landed_everywhere(landers, style) >= written[style] for style in STYLES)

    def state() -> str:
        return "".join(
            f"\n{one.name}: {one.lake.verdict(written)}\n{one.start().log[-3000:]}" for one in landers
        )

    eventually(landed, state, deadline=120, every=0.5)


OUTAGE = 8.0
"""Seconds: tried again after 1, 3 and 7."""


@pytest.mark.timeout(200)
def test_an_outage_is_told_once_a_minute_waited_for_and_no_crash(tmp_path: Path, hdfs: HdfsServer) -> None:
    log = tmp_path / "app.log"
    log.write_text("app 0 \n")
    run = Tailrace(tmp_path, STRAIGHT.format(root=tmp_path, hdfs=hdfs.url))
    lake = Lake(HdfsFolder(hdfs.client(), "/straight"))

    def landed(count: int) -> bool:
        lake.refresh()
        return lake.next_missing("app") == count

    try:
        eventually(lambda: landed(1), lambda: run.log, every=0.2)
        before = [child.pid for child in run.children()]
        outages = {
            "safe mode": (lambda: hdfs.safe_mode(True), lambda: hdfs.safe_mode(False)),
            "Connection refused": (hdfs.kill_namenode, hdfs.start_namenode),
        }
        for number, (reason, (begin, end)) in enumerate(outages.items(), start=1):
            at = len(run.log)
            begin()
            with log.open("a") as out:
                out.write(f"app {number} \n")
            try:
                run.logged(f"waits and tries again.*{reason}")
                time.sleep(OUTAGE)
                told = run.log[at:].splitlines()
            finally:
                end()
            print("\n".join(told))
            for event in ("waits and tries again", "event=problem"):
                (line,) = [line for line in told if event in line]
                assert re.search(
                    rf"{re.escape(hdfs.url)}/straight/.*{reason}.*; [0-9.]+ [KMGT]?i?B free",
                    line,
                    re.IGNORECASE,
                )
            eventually(lambda number=number: landed(number + 1), lambda: run.log, every=0.2)
        assert [child.pid for child in run.children()] == before, run.log
        assert run.log.count("goes on") == len(outages)
        assert lake.doubled() == {}
    finally:
        run.end()
