"""Apache Kafka as the judge: its dump tool reads our log directories, it serves a copy of ours, and we one of its own."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tailrace.broker.log import meta
from tailrace.broker.log.config import LogConfig
from tailrace.broker.log.store import LogStore
from tailrace.clock import ManualClock
from tests.support.batches import NOW, keyed, marker, numbered, plain, read_all
from tests.support.kafka_server import KafkaServer, dump_log_segments

pytestmark = pytest.mark.interop

SMALL = LogConfig(
    segment_bytes=4000, index_interval_bytes=300, retention_ms=-1, min_cleanable_dirty_ratio=0.0
)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory) -> Iterator[KafkaServer]:
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    server.format()
    server.start()
    yield server
    server.kill()


def fill(store: LogStore) -> None:
    """Every kind of batch: codecs, an idempotent producer, transactions of both ends and an open one."""
    log = store.create("t", 1).partitions[0]
    for i in range(60):
        codec = ("none", "gzip", "snappy", "lz4", "zstd")[i % 5]
        log.append(
            plain(*[b"row %d.%d " % (i, j) * 5 for j in range(8)], timestamp=NOW + 1000 * i, codec=codec)
        )
        log.append(numbered(7, 0, i, b"idempotent %d" % i, timestamp=NOW + 1000 * i))
        if i % 3 == 0:
            log.append(
                numbered(
                    8, 0, i // 3 * 2, b"in a", b"transaction", transactional=True, timestamp=NOW + 1000 * i
                )
            )
            if i < 57:
                log.append(marker(8, 0, i % 2 == 0, timestamp=NOW + 1000 * i), control=True)


def visible(store: LogStore) -> list[bytes | None]:
    log = store.log("t", 0)
    return [r.value for r in read_all(log) if not (r.key and len(r.key) == 4 and r.key[:2] == b"\0\0")]


def dump(directory: Path) -> str:
    files = [
        p
        for suffix in ("log", "index", "timeindex", "txnindex", "snapshot")
        for p in sorted(directory.glob(f"*.{suffix}"))
    ]
    return dump_log_segments(*files)


def test_kafkas_dump_tool_reads_our_files_and_finds_no_mismatch(tmp_path):
    store = LogStore(str(tmp_path / "d"), clock=ManualClock(), defaults=SMALL)
    store.open()
    fill(store)
    compacted = store.create("c", 1, {"cleanup.policy": "compact", "segment.bytes": "1000"}).partitions[0]
    for i in range(40):
        compacted.append(
            keyed([(b"k%d" % (i % 4), b"v" * 50), (b"gone", None)], codec="gzip" if i % 2 else "none")
        )
    compacted.flush()
    assert compacted.compact(NOW)
    leo, aborted = store.log("t", 0).leo, store.log("t", 0).aborted(0, 2**62)
    store.close()
    text = dump(tmp_path / "d" / "t-0") + dump(tmp_path / "d" / "c-0")
    assert not re.search(r"(?i)mismatch|not found|out of order|corrupt|invalid: |error|exception", text), (
        text[-3000:]
    )
    last = max(int(found) for found in re.findall(r"lastOffset: (\d+)", text))
    assert last == leo - 1
    assert len(re.findall(r"producerId: 8 .*lastStableOffset", text)) == len(aborted) > 5
    assert "producerId: 7 producerEpoch: 0" in text


def test_kafka_serves_a_copy_of_our_log(kafka, tmp_path):
    store = LogStore(str(tmp_path / "d"), clock=ManualClock(), defaults=SMALL)
    store.open()
    fill(store)
    rows, aborted = visible(store), store.log("t", 0).aborted(0, 2**62)
    log = store.log("t", 0)
    log.flush()
    markers = sum(r.value is not None and len(r.value) == 6 for r in read_all(log, upto=log.lso))
    stable = len(read_all(log, upto=log.lso)) - markers
    store.close()
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic("t", 1, 1)])["t"].result(30)
    del admin
    kafka.stop()
    theirs = kafka.directory / "data" / "t-0"
    topic_id = meta.read_partition(str(theirs))
    shutil.rmtree(theirs)
    shutil.copytree(tmp_path / "d" / "t-0", theirs)
    (theirs / meta.PARTITION_FILE).write_text(f"version: 0\ntopic_id: {meta.to_text(topic_id)}")
    kafka.start()
    assert consume(kafka, "read_uncommitted", len(rows)) == rows
    committed = consume(kafka, "read_committed", None)
    assert len(committed) == stable - 2 * len(aborted)
    assert committed.count(b"transaction") == len([i for i in range(0, 57, 3) if i % 2 == 0])


def consume(kafka: KafkaServer, isolation: str, count: int | None) -> list[bytes]:
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": f"g-{isolation}",
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition("t", 0, 0)])
    rows: list[bytes] = []
    while True:
        message = consumer.poll(30)
        assert message is not None, f"{len(rows)} rows, then nothing"
        if message.error() is None:
            rows.append(message.value())
        elif "end of partition" in str(message.error()).lower() or message.error().name() == "_PARTITION_EOF":
            break
    consumer.close()
    assert count is None or len(rows) == count
    return rows


@pytest.mark.parametrize("stop", ["stop", "kill"])
def test_we_serve_a_copy_of_kafkas_log(kafka, tmp_path, stop):
    name = f"theirs-{stop}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    topic = NewTopic(name, 2, 1, config={"segment.bytes": "1048576", "index.interval.bytes": "1000"})
    admin.create_topics([topic])[name].result(30)
    sent: dict[int, list[bytes]] = {0: [], 1: []}
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        producer = Producer(
            {"bootstrap.servers": kafka.bootstrap, "compression.codec": codec, "enable.idempotence": True}
        )
        for i in range(4000):
            row = b"%s %d " % (codec.encode(), i) * 12
            producer.produce(name, row, key=b"%d" % i, partition=i % 2, headers={"h": b"x"})
            sent[i % 2].append(row)
        producer.flush(60)
    transactional = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": f"tx-{stop}"})
    transactional.init_transactions(30)
    for i in range(6):
        transactional.begin_transaction()
        transactional.produce(name, b"tx %d" % i, partition=0)
        transactional.flush(30)
        transactional.commit_transaction(30) if i % 2 else transactional.abort_transaction(30)
        sent[0].append(b"tx %d" % i)
    del admin, producer, transactional
    getattr(kafka, stop)()
    copy = tmp_path / "copy"
    shutil.copytree(kafka.directory / "data", copy)
    kafka.start()
    store = LogStore(str(copy))
    store.open()
    found = store.topic(name)
    assert found is not None
    assert len(found.partitions) == 2
    for n, log in enumerate(found.partitions):
        records = [r for r in read_all(log) if not (r.key and len(r.key) == 4 and r.key[:2] == b"\0\0")]
        assert [r.value for r in records] == sent[n]
    assert len(found.partitions[0].aborted(0, 2**62)) == 3
    if stop == "stop":  # Kafka answers a commit before its marker is written, and a kill may come between
        assert found.partitions[0].lso == found.partitions[0].leo
    done = found.partitions[0].append(plain(b"ours"))
    assert done.first_offset == found.partitions[0].leo - 1
    store.close()
