"""The peer: what a Python user writes by hand with confluent-kafka and pyarrow, tuned as its manual says.

`python -m benchmarks.peer produce|consume ...` does one half of the pipeline, and prints a JSON line with the
rows and when it began to read and had its last acknowledgement (or last commit), in seconds since the epoch.
"""

import argparse
import json
import time
from pathlib import Path

import confluent_kafka as ck
import pyarrow as pa
import pyarrow.parquet as pq

PRODUCER_SETTINGS = {
    "small": {"linger.ms": 5, "batch.size": 131_072},
    "medium": {"linger.ms": 50, "batch.size": 1_000_000},
    "large": {"linger.ms": 200, "batch.size": 1_000_000, "queue.buffering.max.kbytes": 262_144},
}
_NO_PAUSES = {
    "queued.min.messages": 1_000_000,
    "queued.max.messages.kbytes": 262_144,
    "fetch.queue.backoff.ms": 5,
}
"""librdkafka's own values make a consumer of short rows stand still for a second when it has 100,000 of them."""
CONSUMER_SETTINGS = {
    "small": {"fetch.min.bytes": 1, **_NO_PAUSES},
    "medium": {"fetch.min.bytes": 1_000_000, "fetch.max.bytes": 16_000_000, **_NO_PAUSES},
    "large": {
        "fetch.min.bytes": 1_000_000,
        "max.partition.fetch.bytes": 16_000_000,
        "fetch.max.bytes": 64_000_000,
        **_NO_PAUSES,
    },
}
_ROWS_A_TRANSACTION = 1_000_000
"""About the 128 MiB of ours; 200,000 are no better."""
_ROWS_A_ROW_GROUP = 500_000
_MAX_LINE = 1_000_000


def produce(arguments: argparse.Namespace) -> dict[str, float]:
    """Every line of the file is one message; a line over _MAX_LINE goes out in parts, as ours does."""
    settings = {
        "bootstrap.servers": arguments.bootstrap,
        "queue.buffering.max.messages": 1_000_000,
        "batch.num.messages": 10_000,
        "message.max.bytes": 1_048_588,
        **PRODUCER_SETTINGS[arguments.setting],
    }
    if arguments.transactional:
        settings |= {"transactional.id": f"peer-{arguments.setting}", "acks": "all"}
    else:
        settings |= {"acks": 1}
    producer = ck.Producer(settings)
    if arguments.transactional:
        producer.init_transactions()
        producer.begin_transaction()
    began = time.time()
    rows = 0
    with Path(arguments.path).open("rb", buffering=2**20) as lines:
        for line in lines:
            body = line[:-1]
            for at in range(0, max(len(body), 1), _MAX_LINE):
                while True:
                    try:
                        producer.produce(arguments.topic, body[at : at + _MAX_LINE], partition=0)
                        break
                    except BufferError:
                        producer.poll(0.1)
                rows += 1
            if rows % 10_000 == 0:
                producer.poll(0)
            if arguments.transactional and rows % _ROWS_A_TRANSACTION == 0:
                producer.commit_transaction()
                producer.begin_transaction()
    if arguments.transactional:
        producer.commit_transaction()
    left = producer.flush(60)
    if left:
        raise SystemExit(f"{left} messages were not acknowledged")
    return {"rows": rows, "began": began, "ended": time.time()}


def consume(arguments: argparse.Namespace) -> dict[str, float]:
    """Topic to Parquet (zstd-1), offsets committed after each file: at-least-once, as such a script is."""
    consumer = ck.Consumer(
        {
            "bootstrap.servers": arguments.bootstrap,
            "group.id": f"peer-{arguments.setting}-{time.time_ns()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed" if arguments.transactional else "read_uncommitted",
            **CONSUMER_SETTINGS[arguments.setting],
        }
    )
    topics = consumer.list_topics(arguments.topic).topics[arguments.topic].partitions
    consumer.assign([ck.TopicPartition(arguments.topic, number, 0) for number in topics])
    Path(arguments.path).mkdir(parents=True, exist_ok=True)
    schema = pa.schema(
        [
            ("body", pa.binary()),
            ("timestamp", pa.timestamp("ms", "UTC")),
            ("partition", pa.int32()),
            ("offset", pa.int64()),
        ]
    )
    began = time.time()
    rows = 0
    gathered: list[ck.Message] = []
    writer: pq.ParquetWriter | None = None
    while rows < arguments.rows:
        messages = consumer.consume(10_000, timeout=1.0)
        gathered += messages
        rows += len(messages)
        if len(gathered) < _ROWS_A_ROW_GROUP and rows < arguments.rows:
            continue
        table = pa.table(
            [
                [message.value() for message in gathered],
                [message.timestamp()[1] for message in gathered],
                [message.partition() for message in gathered],
                [message.offset() for message in gathered],
            ],
            schema=schema,
        )
        gathered.clear()
        if writer is None:
            path = Path(arguments.path) / f"part-{rows:012d}.parquet"
            writer = pq.ParquetWriter(
                path, schema, compression="zstd", compression_level=1, use_dictionary=False
            )
        writer.write_table(table)
        if path.stat().st_size >= 128 * 2**20 or rows >= arguments.rows:
            writer.close()
            writer = None
            consumer.commit(asynchronous=False)
    ended = time.time()
    consumer.close()
    return {"rows": rows, "began": began, "ended": ended}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("half", choices=["produce", "consume"])
    parser.add_argument("path", help="the log to read, or the folder to land in")
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--setting", choices=list(PRODUCER_SETTINGS), default="medium")
    parser.add_argument("--transactional", action="store_true")
    parser.add_argument("--rows", type=int, default=0, help="rows after which consume ends")
    arguments = parser.parse_args()
    print(json.dumps({"produce": produce, "consume": consume}[arguments.half](arguments)), flush=True)


if __name__ == "__main__":
    main()
