"""The promise itself: a live pipeline, rotating files, SIGKILL at random, and each line lands once."""

from pathlib import Path

import pytest

from tests.support.kafka_server import running_kafka
from tests.support.live import LivePipeline, run_under_fire, seed_from_environment


@pytest.mark.timeout(240)
def test_each_line_lands_exactly_once_through_ten_kills(tmp_path: Path) -> None:
    run_under_fire(LivePipeline(tmp_path, seed_from_environment(11)), kills=10, pace=2.0)


@pytest.mark.interop
@pytest.mark.timeout(900)
def test_each_line_lands_exactly_once_through_fifty_kills(tmp_path: Path) -> None:
    run_under_fire(LivePipeline(tmp_path, seed_from_environment(51)), kills=50)


@pytest.mark.interop
@pytest.mark.timeout(900)
def test_the_same_on_apache_kafka(tmp_path: Path) -> None:
    with running_kafka(tmp_path / "kafka") as kafka:
        pipeline = LivePipeline(tmp_path, seed_from_environment(52), kafka=kafka)
        run_under_fire(pipeline, kills=50)
        assert pipeline.kills.count("kafka") >= 5, "Kafka itself was hardly killed"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("channel", ["memory", "file"])
def test_hundreds_of_kills(tmp_path: Path, channel: str) -> None:
    run_under_fire(LivePipeline(tmp_path, seed_from_environment(500), channel=channel), kills=300)
