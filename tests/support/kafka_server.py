"""A real Apache Kafka: one KRaft node on 127.0.0.1 in a directory of its own."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.install_servers import kafka_jars
from tests.support.ports import free_port, wait_for_port

_CLUSTER_ID = "dGFpbHJhY2UtdGVzdHMtMQ"
_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=100
# One that was killed may come back when its session is over: after 9 seconds, were it not for this.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=8388608
"""


class KafkaServer:
    """Kafka in `directory`; `start` and `kill` may be called again and again on the same data."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._properties = directory / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._properties.write_text(
            _PROPERTIES.format(port=self.port, controller=free_port(), data=directory / "data")
        )

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def format(self) -> None:
        """Makes the metadata log; a data directory that is there already keeps its topics' logs."""
        command = ["format", "--ignore-formatted", "-t", _CLUSTER_ID, "-c", str(self._properties)]
        subprocess.run(_java("kafka.tools.StorageTool", *command), check=True, capture_output=True)

    def start(self) -> None:
        with (self.directory / "kafka.log").open("ab") as log:
            self._process = subprocess.Popen(
                _java("kafka.Kafka", str(self._properties)), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        wait_for_port(self.port, self._process)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


@contextlib.contextmanager
def running_kafka(directory: Path) -> Iterator[KafkaServer]:
    server = KafkaServer(directory)
    server.format()
    server.start()
    try:
        yield server
    finally:
        server.kill()


def dump_log_segments(*segments: Path) -> str:
    """What Kafka's own DumpLogSegments prints of .log, .index, .timeindex and .txnindex files."""
    files = ",".join(str(segment) for segment in segments)
    command = ["--deep-iteration", "--print-data-log", "--files", files]
    done = subprocess.run(
        _java("org.apache.kafka.tools.DumpLogSegments", *command), check=True, capture_output=True, text=True
    )
    return done.stdout


def _java(main: str, *arguments: str) -> list[str]:
    return ["java", "-Xmx512m", "-cp", f"{kafka_jars()}/*", main, *arguments]
