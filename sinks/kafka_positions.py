"""`__tailrace_positions`: the compacted topic in which the Kafka sink keeps origins, written in the rows'
transactions.

Key: a JSON array [pipeline, agent, sink, instance, partition key]; the instance is null for partitions of
topics, which move from one instance to another. Value: a JSON object with the next position, the source's
state, the partition's name, and since when it is gone. A tombstone forgets a partition.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from tailrace.broker.client.admin import EARLIEST, LATEST, list_offsets
from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.fetcher import Fetcher
from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.wire.partitioner import partition_of
from tailrace.component import Context
from tailrace.errors import Corrupt, Halt, Retry
from tailrace.event import Partition, Record, make_rows

TOPIC = "__tailrace_positions"
PARTITIONS = 8
"""What the topic is made with. More of them, added later, are not used: a key's place must not move."""
_VERSION = 1
_PATIENCE = 30.0
"""Seconds to wait for somebody's open transaction to end before Retry says so."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the topic has of one partition. gone: ms since the epoch when its source gave it up, or None."""

    partition: Partition
    record: Record
    gone: int | None = None

    def gone_since(self, now_ms: int | None) -> "Stored":
        return replace(self, gone=now_ms)


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose positions: one sink of an agent; `instance` None for those that all its instances share."""

    pipeline: str
    agent: str
    sink: str
    instance: str | None

    @classmethod
    def of(cls, context: Context) -> "Owner":
        return cls(context.pipeline, context.agent, context.name, context.instance)

    @property
    def shared(self) -> "Owner":
        return replace(self, instance=None)

    def keeper(self, partition: Partition) -> "Owner":
        return self.shared if partition.kind == "topic" else self

    @property
    def prefix(self) -> list[str | None]:
        return [self.pipeline, self.agent, self.sink, self.instance]


def encode(owner: Owner, partition: Partition, stored: Stored | None) -> tuple[bytes, bytes | None]:
    """(key, value); the value None is a tombstone."""
    key = json.dumps([*owner.keeper(partition).prefix, partition.key]).encode()
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


def decode(key: bytes, value: bytes) -> Stored:
    """Corrupt for anything but what encode() makes; Halt for what a newer version made."""
    try:
        partition_key = json.loads(key)[-1]
        content = json.loads(value)
        version = content["version"]
        if isinstance(version, int) and version > _VERSION:
            raise Halt(f"{TOPIC}: a position of version {version} was written by a newer Tailrace")
        state = content.get("state")
        record = Record(int(content["position"]), None if state is None else base64.b64decode(state))
        gone = content.get("gone")
        return Stored(_partition(partition_key, content["name"]), record, None if gone is None else int(gone))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise Corrupt(f"{TOPIC}: not a position: key {key[:200]!r}: {error!r}") from error


def rows_of(entries: list[tuple[bytes, bytes | None]], now_ms: int) -> pa.RecordBatch:
    """Entries as rows to send."""
    keys, values = zip(*entries, strict=True)
    positions = pa.array(range(len(entries)), pa.int64())
    return make_rows(pa.array(values, pa.binary()), positions, now_ms, key=pa.array(keys, pa.binary()))


def place_of(cluster: Cluster, owner: Owner) -> TopicPartition:
    """All positions of one owner are in one partition: one fewer marker a transaction."""
    partitions = min(len(cluster.topic(TOPIC).partitions), PARTITIONS)
    return TopicPartition(TOPIC, partition_of(json.dumps(owner.prefix).encode(), partitions))


def read_positions(cluster: Cluster, owner: Owner) -> dict[Partition, Stored]:
    """All that is committed for `owner` now. Only after InitProducerId: a predecessor's transaction is
    settled by it.

    The end is taken first and without isolation, so that a commit whose markers are still being written
    is waited for. Retry when somebody's open transaction hides a part of it for long.
    """
    place = place_of(cluster, owner)
    end = list_offsets(cluster, [place], LATEST, isolation="read_uncommitted")[place]
    prefix = json.dumps(owner.prefix).encode()[:-1] + b","
    entries = _read(cluster, place, end)
    latest = {key: value for key, value in entries if key is not None and key.startswith(prefix)}
    found = [decode(key, value) for key, value in latest.items() if value is not None]
    return {stored.partition: stored for stored in found}


def changed(
    records: Mapping[Partition, Record], stored: Mapping[Partition, Stored]
) -> dict[Partition, Stored]:
    """What to write for positions that have moved on."""
    return {
        partition: Stored(partition, record)
        for partition, record in records.items()
        if partition not in stored or stored[partition].record != record or stored[partition].gone is not None
    }


def _read(cluster: Cluster, place: TopicPartition, end: int) -> Iterator[tuple[bytes | None, bytes | None]]:
    at = list_offsets(cluster, [place], EARLIEST)[place]
    fetcher = Fetcher(cluster, isolation="read_committed")
    fetcher.seek(place, at)
    deadline = cluster.clock.monotonic() + _PATIENCE
    try:
        while at < end:
            fetched = fetcher.poll(0.5)
            if fetched is not None:
                at = fetched.end
                deadline = cluster.clock.monotonic() + _PATIENCE
                keys, values = fetched.rows.column("key"), fetched.rows.column("body")
                yield from zip(keys.to_pylist(), values.to_pylist(), strict=True)
            elif cluster.clock.monotonic() > deadline:
                raise Retry(
                    f"{place}: read up to offset {at} of {end}: somebody's transaction is open there; it"
                    " ends when its agent starts again, or at its time-out"
                )
    finally:
        fetcher.close()


def _partition(key: str, name: str) -> Partition:
    kind, _, rest = key.partition("/")
    identity, _, number = rest.rpartition("/")
    if kind not in ("file", "topic", "stream") or not identity or not isinstance(name, str):
        raise ValueError(f"not a partition: {key!r}")
    return Partition(kind, identity, int(number), name)  # type: ignore[arg-type]
