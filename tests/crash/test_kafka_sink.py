"""The Kafka sink under SIGKILL at every step of its transaction, beside zombies, and beside a dying broker."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tailrace.errors import Fenced
from tailrace.sinks import kafka_positions
from tailrace.sinks.kafka import KafkaSink
from tests.support import kafka_sink_runs as runs
from tests.support.live_broker import LiveBroker
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
NAMES = sorted(
    {
        name
        for path in (*ROOT.glob("sinks/kafka*.py"), ROOT / "broker/client/transactions.py")
        for name in re.findall(r'failpoint\("([a-z_.]+)"\)', path.read_text())
    }
)
ONCE_A_RUN = {"kafka_sink.initialised"}
KILLS = [f"{name}=kill@{n}" for name in NAMES for n in (1, 3) if n == 1 or name not in ONCE_A_RUN]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveBroker]:
    with LiveBroker(tmp_path_factory.mktemp("broker") / "data", flush_interval=0.05) as broker:
        yield broker


@pytest.mark.parametrize("kill", KILLS)
def test_killed_at_each_step_every_row_is_there_once(broker: LiveBroker, kill: str):
    runs.killed_and_started_again(broker.address, kill)


def before_init(successor: KafkaSink, commit: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    init = successor._producer.init_transactions
    monkeypatch.setattr(successor._producer, "init_transactions", lambda: (commit(), init()))


def after_init(successor: KafkaSink, commit: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    init = successor._producer.init_transactions
    monkeypatch.setattr(successor._producer, "init_transactions", lambda: (init(), commit()))


def after_reading(successor: KafkaSink, commit: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    read = kafka_positions.read_positions
    monkeypatch.setattr(kafka_positions, "read_positions", lambda *a: (read(*a), commit())[0])


@pytest.mark.parametrize("moment", [before_init, after_init, after_reading])
def test_a_zombie_commits_in_time_or_not_at_all(
    broker: LiveBroker, moment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    runs.beside_a_zombie(broker.address, lambda sink, commit: moment(sink, commit, monkeypatch))


def test_the_suite_notices_positions_outside_the_transaction(
    broker: LiveBroker, monkeypatch: pytest.MonkeyPatch
):
    right = KafkaSink._send_positions

    def apart(sink: KafkaSink, entries: list) -> None:
        sink._producer.commit()
        sink._producer.begin()
        right(sink, entries)

    monkeypatch.setattr(KafkaSink, "_send_positions", apart)
    with pytest.raises(AssertionError, match="15 rows doubled"):
        for kill in KILLS:
            if kill.startswith("kafka_sink.positions_sent"):
                runs.killed_and_started_again(broker.address, kill)


def test_the_suite_notices_positions_that_are_read_before_init(
    broker: LiveBroker, monkeypatch: pytest.MonkeyPatch
):
    right = KafkaSink._initialised

    def too_early(sink: KafkaSink) -> dict:
        if sink._stored is not None:
            return sink._stored
        early = kafka_positions.read_positions(sink._cluster, sink._owner)
        right(sink)
        sink._stored = early
        return early

    monkeypatch.setattr(KafkaSink, "_initialised", too_early)
    with pytest.raises(AssertionError, match="10 rows doubled"):
        runs.beside_a_zombie(broker.address, lambda sink, commit: before_init(sink, commit, monkeypatch))


def test_a_predecessor_that_is_alive_is_fenced(broker: LiveBroker):
    topic = runs.make_topic(broker.address)
    one, two = runs.make(broker.address, topic), runs.make(broker.address, topic)
    one.open()
    one.acquire([])
    one.write(runs.batch(0, 5))
    two.acquire([])
    with pytest.raises(Fenced):
        one.commit()
    one.abort()  # does not fence the rival in turn
    two.write(runs.batch(0, 5))
    assert two.commit() == {runs.ORIGIN: 5}
    one.close()
    two.close()


@pytest.mark.parametrize(
    "name",
    [
        "transactions.rows_synced",
        "transactions.prepare_synced",
        "transactions.markers_synced",
    ],
)
def test_beside_a_broker_that_is_killed_every_row_is_there_once(tmp_path: Path, name: str):
    address = f"127.0.0.1:{free_port()}"
    data = tmp_path / "data"
    with LiveBroker(data, listen=address, failpoints=f"{name}=kill@4") as dying:
        topic = runs.make_topic(address)
        sink = runs.make(address, topic)
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(runs.drive, sink, lambda *report: None)
            assert dying.process.wait(60) == -9
            with LiveBroker(data, listen=address):
                writing.result(60)
                runs.check(address, topic)
        sink.close()
