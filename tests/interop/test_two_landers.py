"""Two landing agents in one group, one stopped at each state past its session and woken again: each row once.

The woken agent was fenced and reads again, or has nothing to do; either way it takes its share of the group.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.crash.test_landing import WAYS
from tests.support.kafka_server import running_kafka
from tests.support.live_broker import LiveBroker
from tests.support.postgres import running_postgres
from tests.support.source_places import failpoints
from tests.support.two_landers import Stop, TwoLanders

pytestmark = pytest.mark.interop

AT_ONCE = 8
"""Pairs of landers side by side: most of their time they wait for a session to end."""
NAMES = [
    name
    for name in failpoints("sinks/ledger", "sinks/parquet", "sinks/stores/local.py")
    if name.startswith(("landing.", "ledger.decide.", "publish.", "store."))
]
"""Each step of a batch; test_landing.py stops also in what surrounds them, beside a rival without a broker."""
AT_ITS_START = ("landing.after_acquire", "landing.after_recover")
IN_TRANSACTION = ("ledger.decide.before_commit", "ledger.decide.commit_request")
ON_KAFKA = ("landing.before_decide", "landing.after_decide", "store.local.after_link", *IN_TRANSACTION)


def stop_at(name: str) -> Stop:
    beside, _ = WAYS.get(name, ("", ""))
    passing = 1 if name in WAYS or name in AT_ITS_START else 2
    return Stop(name, passing, beside, holds_ledger=name in IN_TRANSACTION)


def run_all(root: Path, bootstrap: str, stops: Sequence[Stop], ledger_of: Callable[[Path], str]) -> None:
    """In chains that run side by side, each with a topic, a lake and a ledger of its own."""
    chains = [stops[at::AT_ONCE] for at in range(min(AT_ONCE, len(stops)))]

    def run(chain: Sequence[Stop]) -> tuple[dict[str, str], str]:
        directory = root / chain[0].failpoint
        directory.mkdir()
        woken: dict[str, str] = {}
        try:
            for name, told in TwoLanders(directory, bootstrap, ledger_of(directory)).run(chain):
                woken[name] = told
        except AssertionError as error:
            return woken, f"\n===== {[stop.failpoint for stop in chain]} after {list(woken)}: {error}"
        return woken, ""

    with ThreadPoolExecutor(AT_ONCE) as pool:
        ended = list(pool.map(run, chains))
    woken = {name: told for chain, _ in ended for name, told in chain.items()}
    for outcome in sorted(set(woken.values())):
        print(f"{outcome}: {sorted(name for name, told in woken.items() if told == outcome)}")
    assert not (faults := "".join(fault for _, fault in ended)), faults
    assert len(woken) == len(stops)


@pytest.mark.timeout(400)
def test_on_our_broker_at_each_state(tmp_path: Path) -> None:
    stops = [stop_at(name) for name in NAMES]
    with LiveBroker(tmp_path / "broker") as broker, running_postgres() as postgres:
        run_all(tmp_path, broker.address, stops, lambda directory: postgres.create_database(directory.name))


@pytest.mark.timeout(200)
def test_on_apache_kafka_with_the_ledger_in_sqlite(tmp_path: Path) -> None:
    stops = [stop_at(name) for name in ON_KAFKA]
    with running_kafka(tmp_path / "kafka") as kafka:
        run_all(tmp_path, kafka.bootstrap, stops, lambda directory: f"sqlite:///{directory}/ledger.db")
