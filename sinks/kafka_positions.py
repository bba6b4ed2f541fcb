"""`__tailrace_positions`: the compacted topic in which the Kafka sink keeps origins, written in the rows'
transactions.

Key: a JSON array [pipeline, agent, sink, instance, partition key]; value: a JSON object with the next
position, the
source's state, the partition's name, and since when it is gone. A tombstone forgets a partition.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from tailrace.broker.client.admin import EARLIEST, LATEST, list_offsets
from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.fetcher import Fetched, Fetcher
from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.wire.partitioner import partition_of
from tailrace.component import Context
from tailrace.errors import Corrupt, Retry
from tailrace.event import Partition, Record, make_rows

TOPIC = "__tailrace_positions"
_VERSION = 1
_PATIENCE = 30.0
"""Seconds to wait for a rival's open transaction to end before Retry names it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the topic has of one partition. gone: ms since the epoch when its source gave it up, or None."""

    partition: Partition
    record: Record
    gone: int | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose positions: one sink of one instance of an agent."""

    pipeline: str
    agent: str
    sink: str
    instance: str

    @classmethod
    def of(cls, context: Context) -> "Owner":
        return cls(context.pipeline, context.agent, context.name, context.instance)

    @property
    def prefix(self) -> list[str]:
        return [self.pipeline, self.agent, self.sink, self.instance]


def encode(owner: Owner, partition: Partition, stored: Stored | None) -> tuple[bytes, bytes | None]:
    """(key, value); the value None is a tombstone."""
    key = json.dumps([*owner.prefix, partition.key]).encode()
    if stored is None:
        return key, None
    value: dict[str, Any] = {
        "version": _VERSION,
        "position": stored.record.position,
        "name": stored.partition.name,
    }
    if stored.record.state is not None:
        value["state"] = base64.b64encode(stored.record.state).decode()
    if stored.gone is not None:
        value["gone"] = stored.gone
    return key, json.dumps(value).encode()


def decode(key: bytes, value: bytes | None) -> tuple[list[str], str, Stored | None]:
    """(owner's prefix, partition key, what is stored or None for a tombstone). Corrupt for anything else."""
    try:
        *prefix, partition_key = json.loads(key)
        if value is None:
            return prefix, partition_key, None
        content = json.loads(value)
        if content["version"] != _VERSION:
            raise Corrupt(f"{TOPIC}: a position of version {content['version']}: written by a newer Tailrace")
        state = content.get("state")
        record = Record(int(content["position"]), None if state is None else base64.b64decode(state))
        partition = _partition(partition_key, content["name"])
        return prefix, partition_key, Stored(partition, record, content.get("gone"))
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{TOPIC}: not a position: key {key[:200]!r}: {error!r}") from error


def rows_of(entries: list[tuple[bytes, bytes | None]], now_ms: int) -> pa.RecordBatch:
    """Entries as rows to send."""
    keys, values = zip(*entries, strict=True)
    positions = pa.array(range(len(entries)), pa.int64())
    return make_rows(pa.array(values, pa.binary()), positions, now_ms, key=pa.array(keys, pa.binary()))


def partition_for(cluster: Cluster, owner: Owner) -> TopicPartition:
    """All positions of one owner are in one partition: one fewer marker a transaction."""
    partitions = len(cluster.topic(TOPIC).partitions)
    return TopicPartition(TOPIC, partition_of(json.dumps(owner.prefix).encode(), partitions))


def read_positions(cluster: Cluster, owner: Owner) -> dict[Partition, Stored]:
    """All that is committed for `owner` now. Only after InitProducerId: a predecessor's transaction is
    settled by it.

    The end is taken first and without isolation, so that a commit whose markers are still being written
    is waited for.
    """
    place = partition_for(cluster, owner)
    end = list_offsets(cluster, [place], LATEST, isolation="read_uncommitted")[place]
    found: dict[str, Stored] = {}
    for key, value in _read(cluster, place, end):
        prefix, partition_key, stored = decode(key, value)
        if prefix != owner.prefix:
            continue
        if stored is None:
            found.pop(partition_key, None)
        else:
            found[partition_key] = stored
    return {stored.partition: stored for stored in found.values()}


def gone_at(stored: Stored, now_ms: int | None) -> Stored:
    return replace(stored, gone=now_ms)


def changed(
    records: Mapping[Partition, Record], stored: Mapping[Partition, Stored]
) -> dict[Partition, Stored]:
    """What to write for positions that have moved on."""
    return {
        partition: Stored(partition, record)
        for partition, record in records.items()
        if partition not in stored or stored[partition].record != record or stored[partition].gone is not None
    }


def _read(cluster: Cluster, place: TopicPartition, end: int) -> Iterator[tuple[bytes, bytes | None]]:
    start = list_offsets(cluster, [place], EARLIEST)[place]
    fetcher = Fetcher(cluster, isolation="read_committed")
    fetcher.seek(place, start)
    deadline = cluster.clock.monotonic() + _PATIENCE
    at = start
    try:
        while at < end:
            fetched = fetcher.poll(0.5)
            if fetched is not None:
                at = fetched.end
                yield from _entries(fetched)
            elif cluster.clock.monotonic() > deadline:
                raise Retry(
                    f"{place}: read up to offset {at} of {end}: somebody's transaction is open there; it"
                    " ends when its agent starts again, or at its time-out"
                )
    finally:
        fetcher.close()


def _entries(fetched: Fetched) -> Iterator[tuple[bytes, bytes | None]]:
    keys = fetched.rows.column("key").to_pylist()
    values = fetched.rows.column("body").to_pylist()
    for key, value in zip(keys, values, strict=True):
        if key is None:
            raise Corrupt(f"{TOPIC}: a row without a key; somebody else writes to this topic")
        yield key, value


def _partition(key: str, name: str) -> Partition:
    kind, _, rest = key.partition("/")
    identity, _, number = rest.rpartition("/")
    if kind not in ("file", "topic", "stream") or not identity:
        raise ValueError(f"not a partition: {key!r}")
    return Partition(kind, identity, int(number), name)  # type: ignore[arg-type]
