"""Transactions over sockets, in every version: ids, fencing, what commits and what does not."""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tailrace.broker.wire.batch import BatchFields
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.produce import ProduceRequest
from tailrace.broker.wire.reference import SimpleRecord, encode_simple
from tests.support.live_broker import LiveBroker
from tests.support.wire_client import WireClient

_numbers = itertools.count()


@dataclass
class Handle:
    """A transactional producer, as far as the wire goes."""

    client: WireClient
    name: str
    producer_id: int
    epoch: int

    @property
    def who(self) -> dict[str, Any]:
        return {
            "transactional_id": self.name,
            "producer_id": self.producer_id,
            "producer_epoch": self.epoch,
        }

    def add(self, *places: tuple[str, int], version: int = 3) -> ErrorCode:
        topics = [{"name": topic, "partitions": [partition]} for topic, partition in places]
        who = {f"v3_and_below_{name}": value for name, value in self.who.items()}
        answer = self.client.call(24, version, v3_and_below_topics=topics, **who)
        errors = {
            (t.name, r.partition_index): r.partition_error_code
            for t in answer.results_by_topic_v3_and_below
            for r in t.results_by_partition
        }
        error: ErrorCode = errors[places[0]]
        return error

    def produce(
        self, topic: str, *values: bytes, partition: int = 0, sequence: int = 0, version: int = 9
    ) -> ErrorCode:
        records = [SimpleRecord(None, value, (), 1, i) for i, value in enumerate(values)]
        fields = BatchFields(
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            base_sequence=sequence,
            transactional=True,
        )
        batch = encode_simple(records, fields)
        self.client.send(0, version, ProduceRequest(self.name, -1, 5000, [(topic, [(partition, batch)])]))
        error: ErrorCode = self.client.receive().topics[0][1][0].error
        return error

    def add_group(self, group: str, version: int = 4) -> ErrorCode:
        error: ErrorCode = self.client.call(25, version, group_id=group, **self.who).error_code
        return error

    def commit_offsets(
        self, group: str, topic: str, offset: int, version: int = 4, **member: Any
    ) -> ErrorCode:
        place = {"partition_index": 0, "committed_offset": offset, "committed_metadata": "tx"}
        topics = [{"name": topic, "partitions": [place]}]
        answer = self.client.call(28, version, group_id=group, topics=topics, **self.who, **member)
        error: ErrorCode = answer.topics[0].partitions[0].error_code
        return error

    def end(self, commit: bool, version: int = 4) -> ErrorCode:
        error: ErrorCode = self.client.call(26, version, committed=commit, **self.who).error_code
        return error

    def settled(self, commit: bool) -> None:
        """Ends the transaction, and waits until its markers are written."""
        assert self.end(commit) == 0
        while self.end(commit) == ErrorCode.concurrent_transactions:
            pass


def initialize(client: WireClient, name: str | None, version: int = 5, **more: Any) -> Any:
    return client.call(22, version, transactional_id=name, transaction_timeout=60_000, **more)


def producer(client: WireClient, name: str) -> Handle:
    while (answer := initialize(client, name)).error_code == ErrorCode.concurrent_transactions:
        pass
    assert answer.error_code == 0
    return Handle(client, name, answer.producer_id, answer.producer_epoch)


def committed(client: WireClient, group: str, *, stable: bool = False) -> list[tuple[int, int]]:
    answer = client.call(9, 8, groups=[{"group_id": group, "topics": None}], require_stable=stable)
    return [(p.committed_offset, p.error_code) for t in answer.groups[0].topics for p in t.partitions]


def stable_end(client: WireClient, topic: str) -> int:
    wanted = [{"name": topic, "partitions": [{"timestamp": -1}]}]
    answer = client.call(2, 7, replica_id=-1, isolation_level=1, topics=wanted)
    end: int = answer.topics[0].partitions[0].offset
    return end


@pytest.fixture
def name() -> str:
    return f"tx-{next(_numbers)}"


@pytest.mark.parametrize("version", range(6))
def test_every_idempotent_producer_has_an_id_of_its_own(client: WireClient, version: int) -> None:
    found = [initialize(client, None, version) for _ in range(3)]
    assert all((answer.error_code, answer.producer_epoch) == (0, 0) for answer in found)
    assert len({answer.producer_id for answer in found}) == 3


@pytest.mark.parametrize("version", range(6))
def test_a_transaction_in_every_version(client: WireClient, topic: str, name: str, version: int) -> None:
    started = initialize(client, name, version)
    tx = Handle(client, name, started.producer_id, started.producer_epoch)
    assert tx.add((topic, 0), version=min(version, 3)) == 0
    assert tx.produce(topic, b"a", b"b") == 0
    assert stable_end(client, topic) == 0
    assert tx.add_group(name, min(version, 4)) == 0
    assert tx.commit_offsets(name, topic, 7, min(version, 4)) == 0
    assert committed(client, name) == []
    assert tx.end(True, min(version, 4)) == 0
    tx_again = tx.end(True, min(version, 4))
    while tx_again == ErrorCode.concurrent_transactions:
        tx_again = tx.end(True, min(version, 4))
    assert tx_again == 0
    assert stable_end(client, topic) == 3
    assert committed(client, name, stable=True) == [(7, 0)]


def test_an_abort_takes_offsets_back(client: WireClient, topic: str, name: str) -> None:
    tx = producer(client, name)
    tx.add_group(name)
    assert tx.commit_offsets(name, topic, 7) == 0
    wanted = [{"group_id": name, "topics": [{"name": topic, "partition_indexes": [0, 1]}]}]
    found = client.call(9, 8, groups=wanted, require_stable=True).groups[0].topics[0].partitions
    errors = {p.partition_index: (p.committed_offset, p.error_code) for p in found}
    assert errors == {0: (-1, ErrorCode.unstable_offset_commit), 1: (-1, 0)}
    tx.settled(commit=False)
    assert committed(client, name, stable=True) == []


def test_a_fenced_producer_is_told_so_in_its_own_words(client: WireClient, topic: str, name: str) -> None:
    old = producer(client, name)
    assert old.add((topic, 0)) == 0
    new = producer(client, name)
    assert new.producer_id == old.producer_id
    fenced, epoch = ErrorCode.producer_fenced, ErrorCode.invalid_producer_epoch
    for version, expected in ((0, epoch), (1, epoch), (2, fenced), (3, fenced)):
        assert old.add((topic, 0), version=version) == expected
        assert old.add_group("g", version) == expected
        assert old.end(True, version) == expected
    assert old.produce(topic, b"x") == epoch
    assert old.commit_offsets("g", topic, 1) == epoch
    for version, expected in ((3, epoch), (4, fenced)):
        claim = {"producer_id": old.producer_id, "producer_epoch": old.epoch}
        assert initialize(client, name, version, **claim).error_code == expected
    stranger = Handle(client, name, old.producer_id + 500, 0)
    assert stranger.add((topic, 0)) == ErrorCode.invalid_producer_id_mapping
    assert stranger.end(True) == ErrorCode.invalid_producer_id_mapping


def test_rows_outside_the_transaction_are_refused(client: WireClient, topic: str, name: str) -> None:
    tx = producer(client, name)
    assert tx.produce(topic, b"too early") == ErrorCode.invalid_txn_state
    assert tx.add((topic, 0)) == 0
    assert tx.produce(topic, b"elsewhere", partition=1) == ErrorCode.invalid_txn_state
    assert tx.commit_offsets("g", topic, 1, 3) == ErrorCode.invalid_txn_state
    assert tx.commit_offsets("g", topic, 1, 4) == ErrorCode.transaction_abortable
    tx.settled(commit=True)
    assert tx.produce(topic, b"too late") == ErrorCode.invalid_txn_state
    assert tx.produce(topic, b"too late", version=11) == ErrorCode.transaction_abortable
    assert Handle(client, "unheard", 1, 0).produce(topic, b"x") == ErrorCode.invalid_producer_id_mapping
    records = encode_simple(
        [SimpleRecord(None, b"x", (), 1, 0)],
        BatchFields(producer_id=tx.producer_id, producer_epoch=0, base_sequence=0, transactional=True),
    )
    refused = client.produce(topic, records).error
    assert refused == ErrorCode.transactional_id_authorization_failed


def test_partitions_that_are_not_there_are_added_by_nobody(client: WireClient, topic: str, name: str) -> None:
    tx = producer(client, name)
    assert tx.add((topic, 0), ("no-such", 0)) == ErrorCode.operation_not_attempted
    assert tx.add(("no-such", 0), (topic, 0)) == ErrorCode.unknown_topic_or_partition
    assert tx.produce(topic, b"x") == ErrorCode.invalid_txn_state


def test_bad_starts_are_refused(client: WireClient, name: str) -> None:
    assert initialize(client, "").error_code == ErrorCode.invalid_request
    assert initialize(client, name, producer_id=5).error_code == ErrorCode.invalid_request
    for timeout in (0, -1, 900_001):
        answer = client.call(22, 4, transactional_id=name, transaction_timeout=timeout)
        assert answer.error_code == ErrorCode.invalid_transaction_timeout
    assert Handle(client, "", 1, 0).add(("t", 0)) == ErrorCode.unknown_topic_or_partition
    assert Handle(client, "", 1, 0).end(True) == ErrorCode.invalid_request
    assert Handle(client, "", 1, 0).add_group("g") == ErrorCode.invalid_request


def test_a_transaction_that_lasts_too_long_is_aborted(client: WireClient, topic: str, name: str) -> None:
    answer = client.call(22, 4, transactional_id=name, transaction_timeout=300)
    tx = Handle(client, name, answer.producer_id, answer.producer_epoch)
    assert tx.add((topic, 0)) == 0
    assert tx.produce(topic, b"late") == 0
    while stable_end(client, topic) < 2:
        pass
    assert tx.end(True) == ErrorCode.producer_fenced


def test_offsets_of_a_member_need_its_generation(client: WireClient, topic: str, name: str) -> None:
    tx = producer(client, name)
    tx.add_group(name)
    member = {"member_id": "somebody", "generation_id": 3}
    assert tx.commit_offsets(name, topic, 1, 4, **member) == ErrorCode.illegal_generation
    assert tx.commit_offsets(name, topic, 1) == 0
    tx.settled(commit=True)
    assert committed(client, name) == [(1, 0)]


@pytest.mark.parametrize("kill", [False, True])
def test_what_was_open_goes_on_after_a_restart(tmp_path: Path, kill: bool) -> None:
    with LiveBroker(tmp_path / "data") as live, live.client() as client:
        client.create("t", 1)
        plain = initialize(client, None).producer_id
        tx = producer(client, "x")
        assert tx.add(("t", 0)) == 0
        assert tx.produce("t", b"a") == 0
        assert tx.add_group("g") == 0
        assert tx.commit_offsets("g", "t", 1) == 0
        live.kill() if kill else live.stop()
    with LiveBroker(tmp_path / "data") as live, live.client() as client:
        assert initialize(client, None).producer_id not in (plain, tx.producer_id)
        assert stable_end(client, "t") == 0
        assert committed(client, "g") == []
        tx = Handle(client, "x", tx.producer_id, tx.epoch)
        assert tx.produce("t", b"b", sequence=1) == 0
        tx.settled(commit=True)
        assert stable_end(client, "t") == 3
        assert committed(client, "g", stable=True) == [(1, 0)]


def test_a_producer_bumps_its_own_epoch(client: WireClient, topic: str, name: str) -> None:
    def bump(epoch: int, version: int = 4) -> tuple[int, int]:
        answer = initialize(client, name, version, producer_id=tx.producer_id, producer_epoch=epoch)
        return answer.error_code, answer.producer_epoch

    tx = producer(client, name)
    fenced = ErrorCode.producer_fenced
    assert bump(0) == (0, 1)
    assert bump(0) == (0, 1)
    assert bump(1) == (0, 2)
    assert bump(0) == (fenced, -1)
    assert producer(client, name).epoch == 3
    assert bump(2) == (fenced, -1)
    assert bump(1, 3) == (ErrorCode.invalid_producer_epoch, -1)
    stranger = initialize(client, name, 4, producer_id=tx.producer_id + 700, producer_epoch=3)
    assert stranger.error_code == fenced
    assert bump(3) == (0, 4)


def test_a_bump_with_a_transaction_open_aborts_it(client: WireClient, topic: str, name: str) -> None:
    tx = producer(client, name)
    assert tx.add((topic, 0)) == 0
    claim = {"producer_id": tx.producer_id, "producer_epoch": tx.epoch}
    assert initialize(client, name, 4, **claim).error_code == ErrorCode.concurrent_transactions
    while (answer := initialize(client, name, 4, **claim)).error_code == ErrorCode.concurrent_transactions:
        pass
    assert (answer.error_code, answer.producer_epoch) == (0, 1)
    assert producer(client, name).epoch == 2
    assert initialize(client, name, 4, **claim).error_code == ErrorCode.producer_fenced


def test_an_end_is_repeated_but_not_changed(client: WireClient, topic: str, name: str) -> None:
    tx = producer(client, name)
    wrong = ErrorCode.invalid_txn_state
    assert tx.end(True) == tx.end(False) == wrong
    assert tx.add((topic, 0)) == 0
    tx.settled(commit=True)
    assert (tx.end(True), tx.end(False)) == (0, wrong)
    assert tx.add((topic, 0)) == 0
    tx.settled(commit=False)
    assert (tx.end(True), tx.end(False)) == (wrong, 0)
    assert producer(client, name).end(False) == wrong


def test_a_plain_commit_after_a_held_one_stands(client: WireClient, topic: str, name: str) -> None:
    tx = producer(client, name)
    tx.add_group(name)
    assert tx.commit_offsets(name, topic, 7) == 0
    place = [{"name": topic, "partitions": [{"partition_index": 0, "committed_offset": 5}]}]
    plain = client.call(8, 8, group_id=name, generation_id_or_member_epoch=-1, member_id="", topics=place)
    assert plain.topics[0].partitions[0].error_code == 0
    assert committed(client, name) == [(5, 0)]
    assert committed(client, name, stable=True) == [(-1, ErrorCode.unstable_offset_commit)]
    tx.settled(commit=True)
    assert committed(client, name, stable=True) == [(5, 0)]
