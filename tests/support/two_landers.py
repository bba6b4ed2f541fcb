"""Two landing agents in one group, one of them stopped at a failpoint past its session and woken again.

Each is a real `tailrace run` with a state directory of its own; pipeline, ledger, group and lake are shared.
Rows come steadily all the while, and the verdict is read from the Parquet files by pyarrow alone.
"""

import itertools
import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil
import sqlalchemy
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tailrace.sinks.ledger.engine import parse_url
from tests.support.lake import Lake
from tests.support.running import Tailrace, eventually

T = TypeVar("T")
PARTITIONS = 2
SESSION = 6
"""Seconds; the least that a Kafka broker allows by default."""
_PIPELINE = """
pipeline: two
state_dir: {state}
restart: {{initial: 100ms, max: 1s}}
kafka: {{bootstrap: "{bootstrap}"}}
agents:
  land:
    sources:
      rows: {{type: kafka, topics: [{topic}], group: {topic}, session_timeout: {session}s, channels: [c]}}
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
_STARTS_OVER = "starts over from what is committed"


class SteadyRows:
    """A thread that writes numbered rows into every partition of `topic`, until `stop`."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5}
        )
        self._topic = topic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"rows of {topic}")
        self._written = 0
        self._refused: list[object] = []

    @property
    def written(self) -> dict[str, int]:
        """Rows handed over by now, a partition each; a row is `p<partition> <number> `."""
        return {f"p{partition}": self._written for partition in range(PARTITIONS)}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> dict[str, int]:
        """Returns when every row is acknowledged."""
        self._stop.set()
        self._thread.join()
        assert self._producer.flush(60) == 0 and not self._refused, self._refused
        return self.written

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            for partition in range(PARTITIONS):
                row = f"p{partition} {self._written} "
                self._producer.produce(self._topic, row, partition=partition, on_delivery=self._delivered)
            self._written += 1
            self._producer.poll(0)

    def _delivered(self, error: object, _message: object) -> None:
        if error is not None:
            self._refused.append(error)


@dataclass(frozen=True)
class Stop:
    """Where one lander stops itself.

    failpoint     the place
    passing       the how many-th time that it passes there
    beside        failpoints that must be armed too, or it is never passed
    holds_ledger  it stops inside a transaction that keeps others from the ledger: they have to wait for it
    """

    failpoint: str
    passing: int = 1
    beside: str = ""
    holds_ledger: bool = False


class TwoLanders:
    """`sleeper` and `rival`, on a topic of their own of the broker at `bootstrap`."""

    _topics = itertools.count()

    def __init__(self, root: Path, bootstrap: str, ledger: str) -> None:
        self.root = root
        self._bootstrap = bootstrap
        self._ledger = ledger
        self._topic = f"rows-{next(self._topics)}"
        self._lake = Lake(root / "lake")
        self._engine = sqlalchemy.create_engine(parse_url(ledger), poolclass=sqlalchemy.NullPool)
        self._rows = SteadyRows(bootstrap, self._topic)
        self._landers: dict[str, Tailrace] = {}

    def run(self, stops: Sequence[Stop]) -> Iterator[tuple[str, str]]:
        """One stop after the other, each with what the woken lander did; at the end the verdict on all rows.

        AssertionError says what went wrong.
        """
        self._create_topic()
        self._rows.start()
        try:
            self._start("rival")
            self._wait_until_landed(dict.fromkeys(self._rows.written, 1))
            for stop in stops:
                yield stop.failpoint, self._stop_and_wake(stop)
            self._wait_until_landed(self._rows.stop())
            self._end("rival")
            self._check()
        finally:
            self._rows.stop()
            for lander in self._landers.values():
                lander.end()

    def _stop_and_wake(self, stop: Stop) -> str:
        refusals = self._refusals()
        sleeper = self._start("sleeper", f"{stop.beside};{stop.failpoint}=stop@{stop.passing}")
        agent = self._until(lambda: _stopped_child(sleeper), f"passed {stop.failpoint}")
        if stop.holds_ledger:
            self._until(lambda: self._refusals() > refusals, "kept from the ledger")
        else:
            self._wait_until_landed(self._rows.written)
            self._wait_for_owners("rival")
        before = sleeper.log.count(_STARTS_OVER)
        agent.send_signal(signal.SIGCONT)
        self._wait_for_owners("sleeper", "rival")
        self._wait_until_landed(self._rows.written)
        self._end("sleeper")
        return "fenced" if sleeper.log.count(_STARTS_OVER) > before else "nothing to do"

    def _create_topic(self) -> None:
        admin = AdminClient({"bootstrap.servers": self._bootstrap})
        admin.create_topics([NewTopic(self._topic, PARTITIONS, 1)])[self._topic].result(30)

    def _start(self, who: str, failpoints: str = "") -> Tailrace:
        directory = self.root / who
        directory.mkdir(parents=True, exist_ok=True)
        text = _PIPELINE.format(
            state=directory / "state",
            bootstrap=self._bootstrap,
            topic=self._topic,
            session=SESSION,
            lake=self.root / "lake",
            ledger=self._ledger,
        )
        self._landers[who] = Tailrace(directory, text, failpoints=failpoints)
        return self._landers[who]

    def _end(self, who: str) -> None:
        """SIGTERM: it drains, and ends well."""
        self._landers[who].process.terminate()
        assert (status := self._landers[who].wait()) == 0, f"{who}: status {status}{self._logs()}"

    def _until(self, look: Callable[[], T], what: str) -> T:
        return eventually(look, lambda: what + self._logs(), every=0.2)

    def _wait_for_owners(self, *landers: str) -> None:
        """Until each of these has acquired its share of the partitions, and nobody else has any."""
        files = [self.root / one / "state/land/instance.json" for one in landers]
        ids = {json.loads(file.read_text())["id"] for file in files}
        self._until(lambda: self._owners() == ids, f"partitions of {landers}")

    def _owners(self) -> set[str]:
        """Whom the ledger has as owners, by instance id; no part of the verdict."""
        return {owner.partition("@")[0] for owner in self._ask_ledger("SELECT owner FROM ownership")}

    def _refusals(self) -> int:
        """How often the rival has been kept from the ledger: its own word, or what the server sees now."""
        if self._ledger.startswith("sqlite"):
            return self._landers["rival"].log.count("database is locked")
        waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        return len(self._ask_ledger(f"{waiting} AND wait_event_type = 'Lock'"))

    def _ask_ledger(self, query: str) -> Sequence[Any]:
        with self._engine.connect() as connection:
            return connection.execute(sqlalchemy.text(query)).scalars().all()

    def _wait_until_landed(self, written: dict[str, int]) -> None:
        def landed() -> bool:
            self._lake.refresh()
            assert not (doubled := self._lake.doubled()), f"{doubled}{self._logs()}"
            return all(self._lake.next_missing(partition) >= count for partition, count in written.items())

        self._until(landed, f"{written} landed")

    def _check(self) -> None:
        """Each row exactly once, nothing in staging, and no agent that had to be restarted."""
        lake = Lake(self.root / "lake")
        lake.refresh()
        assert not (verdict := lake.verdict(self._rows.written)), f"{verdict}{self._logs()}"
        assert not (staged := lake.staged()), f"left in staging: {staged}{self._logs()}"
        for lander in self._landers.values():
            assert "the agent has" not in lander.log, lander.log

    def _logs(self) -> str:
        return "".join(f"\n--- {who}\n{one.log[-3000:]}" for who, one in self._landers.items())


def _stopped_child(lander: Tailrace) -> psutil.Process | None:
    assert lander.process.poll() is None, lander.log
    for child in lander.children():
        try:
            if child.status() == psutil.STATUS_STOPPED:
                return child
        except psutil.NoSuchProcess:
            pass  # it has just ended
    return None
