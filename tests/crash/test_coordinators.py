"""The broker killed at each step of its coordinators: what was answered is there after the restart, nothing
else is there by half.
"""

import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tailrace.broker.wire.batch import BatchFields
from tailrace.broker.wire.decode import decode_fetch
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.produce import ProduceRequest
from tailrace.broker.wire.reference import SimpleRecord, encode_simple
from tests.support.live_broker import LiveBroker
from tests.support.source_places import failpoints
from tests.support.wire_client import WireClient

MEMBER = {"group_instance_id": "i", "group_id": "members"}


@dataclass
class Answered:
    """What the client has seen, so what must be true for ever. An entry is there before it is asked for."""

    producer_ids: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    commits: dict[int, str] = field(default_factory=dict)
    """Transaction -> asked or answered."""
    aborts: set[int] = field(default_factory=set)
    offset: int = -1
    offset_asked: int = -1
    member: tuple[str, int] | None = None
    """Id and generation of a member that has its assignment."""


def work(client: WireClient, answered: Answered) -> None:
    """Goes on until the broker dies, or for a while."""
    client.create("rows", 2)
    _join(client, answered)
    for turn in range(6):
        answered.producer_ids.append(_initialize(client, None).producer_id)
        answered.offset_asked = turn
        error = _commit_offset(client, turn)
        assert error == 0, error
        answered.offset = turn
        _transaction(client, answered, turn)


def _join(client: WireClient, answered: Answered) -> None:
    body = {
        **MEMBER,
        "session_timeout": 30_000,
        "rebalance_timeout": 30_000,
        "member_id": "",
        "protocol_type": "consumer",
        "protocols": [{"name": "range", "metadata": b""}],
    }
    joined = client.call(11, 9, **body)
    who = {"member_id": joined.member_id, "generation_id": joined.generation_id}
    share = [{"member_id": joined.member_id, "assignment": b"all"}]
    assert client.call(14, 4, **MEMBER, **who, assignments=share).assignment == b"all"
    answered.member = joined.member_id, joined.generation_id


def _initialize(client: WireClient, name: str | None) -> Any:
    while True:
        answer = client.call(22, 4, transactional_id=name, transaction_timeout=60_000)
        if answer.error_code != ErrorCode.concurrent_transactions:
            assert answer.error_code == 0, answer
            return answer


def _commit_offset(client: WireClient, offset: int) -> ErrorCode:
    topics = [{"name": "rows", "partitions": [{"partition_index": 0, "committed_offset": offset}]}]
    plain = {"group_id": "simple", "generation_id_or_member_epoch": -1, "member_id": ""}
    error: ErrorCode = client.call(8, 9, topics=topics, **plain).topics[0].partitions[0].error_code
    return error


def _transaction(client: WireClient, answered: Answered, turn: int) -> None:
    """Rows in both partitions and an offset; every third transaction is aborted, some are left open."""
    started = _initialize(client, "x")
    answered.epochs.append(started.producer_epoch)
    producer = {"producer_id": started.producer_id, "producer_epoch": started.producer_epoch}
    old = {f"v3_and_below_{name}": value for name, value in producer.items()}
    topics = [{"name": "rows", "partitions": [0, 1]}]
    added = client.call(24, 3, v3_and_below_transactional_id="x", v3_and_below_topics=topics, **old)
    assert added.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code == 0
    commits = turn % 3 != 1
    if not commits or turn % 4 == 3:
        answered.aborts.add(turn)
    for partition in (0, 1):
        _produce(client, started, partition, turn)
    who = {"transactional_id": "x", **producer}
    assert client.call(25, 3, group_id="held", **who).error_code == 0
    place = [{"name": "rows", "partitions": [{"partition_index": 0, "committed_offset": turn}]}]
    assert client.call(28, 3, group_id="held", topics=place, **who).topics[0].partitions[0].error_code == 0
    if turn % 4 == 3:
        return
    if commits:
        answered.commits[turn] = "asked"
    assert client.call(26, 3, committed=commits, **who).error_code == 0
    if commits:
        answered.commits[turn] = "answered"


def _produce(client: WireClient, started: Any, partition: int, turn: int) -> None:
    values = [f"{turn}".encode()] * 3
    fields = BatchFields(
        producer_id=started.producer_id,
        producer_epoch=started.producer_epoch,
        base_sequence=0,
        transactional=True,
    )
    batch = encode_simple([SimpleRecord(None, value, (), 1, i) for i, value in enumerate(values)], fields)
    client.send(0, 9, ProduceRequest("x", 1, 5000, [("rows", [(partition, batch)])]))
    assert client.receive().topics[0][1][0].error == 0


def check(client: WireClient, answered: Answered) -> None:
    """Against the broker's next life."""
    assert _initialize(client, None).producer_id not in answered.producer_ids
    if answered.epochs:
        epoch = _initialize(client, "x").producer_epoch
        assert epoch > max(answered.epochs), "an epoch was given twice"
        rows = _rows(client)
        assert {rows[turn] for turn, how in answered.commits.items() if how == "answered"} <= {6}
        assert {rows[turn] for turn, how in answered.commits.items() if how == "asked"} <= {0, 6}
        assert {rows[turn] for turn in answered.aborts} <= {0}
        last = max((turn for turn in rows if rows[turn]), default=-1)
        assert _offset(client, "held") == last, "offsets and rows are not of one transaction"
    assert answered.offset <= _offset(client, "simple") <= answered.offset_asked
    if answered.member is not None:
        member_id, generation = answered.member
        beat = client.call(12, 4, **MEMBER, member_id=member_id, generation_id=generation)
        assert beat.error_code == 0, beat


def _rows(client: WireClient) -> Counter[int]:
    rows: Counter[int] = Counter()
    for partition in (0, 1):
        found = client.fetch("rows", 0, partition=partition, isolation_level=1, max_wait_ms=0)
        assert found.last_stable_offset == found.high_watermark, "a transaction is left open"
        decoded = decode_fetch(found.records, start=0, aborted=found.aborted or [], read_committed=True)
        if decoded.rows is not None:
            rows.update(int(value) for value in decoded.rows.column("body").to_pylist())
    return rows


def _offset(client: WireClient, group: str) -> int:
    wanted = [{"group_id": group, "topics": [{"name": "rows", "partition_indexes": [0]}]}]
    place = client.call(9, 8, groups=wanted, require_stable=True).groups[0].topics[0].partitions[0]
    assert place.error_code == 0, place
    offset: int = place.committed_offset
    return offset


@pytest.mark.parametrize("killed_at", failpoints("broker/api"))
def test_sigkill_at_every_failpoint(tmp_path: Path, killed_at: str) -> None:
    for times in (3, 1):
        answered = Answered()
        directory = tmp_path / str(times) / "data"
        directory.parent.mkdir()
        with LiveBroker(directory, failpoints=f"{killed_at}=kill@{times}") as live:
            try:
                with live.client() as client:
                    work(client, answered)
            except (EOFError, OSError):
                assert live.wait() == -signal.SIGKILL
        if live.process.returncode == 0:
            continue
        with LiveBroker(directory) as live, live.client() as client:
            check(client, answered)
        return
    pytest.fail(f"nothing passed {killed_at}")
