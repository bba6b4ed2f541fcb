"""The Kafka sink under SIGKILL at every step of its transaction, beside zombies, and beside a dying broker."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tailrace.errors import Fenced
from tailrace.sinks import kafka_positions
from tailrace.sinks.kafka import KafkaSink
from tests.support import kafka_sink_runs as runs
from tests.support.live_broker import LiveBroker
from tests.support.ports import free_port
from tests.support.source_places import failpoints

NAMES = failpoints("sinks/kafka.py", "broker/client")
ONCE_A_RUN = {"kafka_sink.initialised"}
KILLS = [(name, passing) for name in NAMES for passing in (1, 3) if passing == 1 or name not in ONCE_A_RUN]


@pytest.mark.parametrize(("killed_at", "passing"), KILLS)
def test_killed_at_each_step_every_row_is_there_once(broker: LiveBroker, killed_at: str, passing: int):
    runs.killed_and_started_again(broker.address, f"{killed_at}=kill@{passing}")


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
