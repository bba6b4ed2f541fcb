"""Apache Kafka's own Java client and tools (4.3) against the built-in broker."""

import subprocess

import pytest

from tests.support.install_servers import kafka_jars
from tests.support.live_broker import LiveBroker

pytestmark = pytest.mark.interop


def java(main: str, broker: LiveBroker, *arguments: str, lines: str = "") -> str:
    command = ["java", "-Xmx256m", "-cp", f"{kafka_jars()}/*", f"org.apache.kafka.tools.{main}"]
    done = subprocess.run(
        [*command, "--bootstrap-server", broker.address, *arguments],
        input=lines,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_java_tools_make_a_topic_fill_it_and_read_it_in_a_group(tmp_path) -> None:
    with LiveBroker(tmp_path / "data") as broker:
        settings = ("--config", "retention.ms=3600000")
        java("TopicCommand", broker, "--create", "--topic", "jt", "--partitions", "3", *settings)
        described = java("TopicCommand", broker, "--describe", "--topic", "jt")
        assert "PartitionCount: 3" in described
        assert "retention.ms=3600000" in described
        rows = [f"row {n}" for n in range(1000)]
        java("ConsoleProducer", broker, "--topic", "jt", lines="\n".join(rows) + "\n")
        group = ("--group", "jg", "--isolation-level", "read_committed", "--timeout-ms", "30000")
        read = java(
            "consumer.ConsoleConsumer",
            broker,
            "--topic",
            "jt",
            "--from-beginning",
            "--max-messages",
            "1000",
            *group,
        )
        assert sorted(read.splitlines()) == sorted(rows)
        ends = java("GetOffsetShell", broker, "--topic", "jt").splitlines()
        assert sum(int(line.rpartition(":")[2]) for line in ends) == 1000
        java("TopicCommand", broker, "--delete", "--topic", "jt")
        assert "jt" not in java("TopicCommand", broker, "--list").splitlines()
