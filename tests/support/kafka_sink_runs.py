"""Runs of the Kafka sink that a kill or a zombie cuts short, and what must be in the topic after them."""

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tailrace.broker.client.admin import create_topic
from tailrace.broker.client.cluster import Cluster
from tailrace.component import ALL, Context
from tailrace.errors import Fenced, Retry, Rewind
from tailrace.event import EventBatch, Partition, Record, Span, make_rows
from tailrace.sinks.kafka import KafkaSink
from tailrace.sinks.kafka_settings import KafkaSinkSettings
from tests.support.forked import run_forked
from tests.support.topic_rows import rows_in

ORIGIN = Partition("file", "ab" * 16, 0, "/var/log/a.log")
ROWS, STEP, COMMIT_EVERY = 60, 5, 15
TOO_LARGE = {22, 47}
"""Rows that go to the dead-letter topic."""
ZOMBIE_ROWS = 10
_numbers = itertools.count()


def make_topic(bootstrap: str) -> str:
    name = f"rows-{next(_numbers)}"
    cluster = Cluster(bootstrap)
    create_topic(cluster, name, configs={"max.message.bytes": "4000"})
    cluster.close()
    return name


def make(bootstrap: str, topic: str) -> KafkaSink:
    settings = KafkaSinkSettings(type="kafka", channel="c", topic=topic)
    return KafkaSink(settings, Context("p", "a", f"wire-{topic}", "0" * 32, Path(), bootstrap))


def drive(sink: KafkaSink, say: Callable[..., None]) -> None:
    """Writes every row that is not there yet, as the runner would."""
    _patiently(sink.open)
    while True:
        try:
            record = _patiently(sink.acquire, ALL).get(ORIGIN)
            position = 0 if record is None else record.position
            assert record is None or record.state == b"state at %d" % position
            say("from", position)
            while position < ROWS:
                _patiently(sink.write, batch(position, position + STEP))
                position += STEP
                if position % COMMIT_EVERY == 0:
                    _patiently(sink.commit)
            return
        except (Rewind, Fenced) as error:
            say("starts over", str(error))
            sink.abort()


def check(bootstrap: str, topic: str) -> None:
    """Every row once, in order, in its topic; the position behind the last one."""
    _compare(bootstrap, topic, [_body(n) for n in range(ROWS) if n not in TOO_LARGE])
    _compare(bootstrap, f"{topic}.dead", [_body(n) for n in sorted(TOO_LARGE)])
    looking = make(bootstrap, topic)
    assert _patiently(looking.stored) == {ORIGIN: Record(ROWS, b"state at %d" % ROWS)}
    looking.close()


def _compare(bootstrap: str, topic: str, wanted: list[bytes]) -> None:
    there = [row.body for row in rows_in(bootstrap, topic)]
    more, fewer = Counter(there) - Counter(wanted), Counter(wanted) - Counter(there)
    assert there == wanted, (
        f"every row once and in order: {topic} has {len(more)} rows doubled, {len(fewer)} lost"
    )


def killed_and_started_again(bootstrap: str, failpoint: str) -> None:
    """A run that `failpoint` (name=kill@N) ends, and one that goes on; then the check."""
    topic = make_topic(bootstrap)
    first = run_forked(lambda say: drive(make(bootstrap, topic), say), failpoint)
    assert first.status == -9, first.reports
    second = run_forked(lambda say: drive(make(bootstrap, topic), say))
    assert second.status == 0, second.reports
    check(bootstrap, topic)


def beside_a_zombie(bootstrap: str, plant: Callable[[KafkaSink, Callable[[], None]], None]) -> None:
    """A predecessor holds ZOMBIE_ROWS rows open and commits at the moment that `plant(successor, commit)` chooses.

    Whether it succeeds or not, the successor goes on from the right place: the check.
    """
    topic = make_topic(bootstrap)
    zombie, successor = make(bootstrap, topic), make(bootstrap, topic)
    zombie.open()
    zombie.acquire(ALL)
    zombie.write(batch(0, ZOMBIE_ROWS))
    zombie._producer.flush()

    def commit() -> None:
        try:
            _patiently(zombie.commit)
        except (Fenced, Rewind):
            pass

    plant(successor, commit)
    try:
        drive(successor, lambda *report: None)
        check(bootstrap, topic)
    finally:
        zombie.close()
        successor.close()


def _body(n: int) -> bytes:
    return b"row %d" % n + (b"." * 5000 if n in TOO_LARGE else b"")


def batch(start: int, end: int) -> EventBatch:
    bodies = pa.array([_body(n) for n in range(start, end)], pa.binary())
    rows = make_rows(bodies, np.arange(start, end), 1_700_000_000_000)
    return EventBatch(rows, ORIGIN, Span(start, end), b"state at %d" % end)


def _patiently(verb: Callable[..., Any], *arguments: object) -> Any:
    while True:
        try:
            return verb(*arguments)
        except Retry:
            continue
