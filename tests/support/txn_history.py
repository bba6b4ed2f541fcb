"""Producers at work on the real coordinators and logs, without sockets; what they were promised is checked.

A row's value names its transaction. Whatever was cut or killed: a transaction whose EndTxn(commit) was
answered is there with all rows and its offsets, one that was aborted is not, one in between is whole or not
at all, and no transaction stays open. Producer ids and epochs are given once.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.groups import Groups
from tailrace.broker.api.transactions import Transactions
from tailrace.broker.coordinator.commit import CommitRequest
from tailrace.broker.coordinator.transaction_rules import Producer
from tailrace.broker.log.log import PartitionLog
from tailrace.broker.log.store import LogStore
from tailrace.broker.wire.batch import BatchFields, headers
from tailrace.broker.wire.control import read_control
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.reference import SimpleRecord, decode_simple, encode_simple
from tailrace.clock import SystemClock
from tailrace.config.broker import BrokerSettings
from tailrace.fs import FileSystem

TOPIC = "rows"
PARTITIONS = 3
NAMES = ("ada", "bob")
_AGAIN = (ErrorCode.coordinator_not_available, ErrorCode.concurrent_transactions)


@dataclass
class Txn:
    """`fate`: open, committing, committed, aborting; what its producer knows of it."""

    name: str
    number: int
    fate: str = "open"
    offsets: bool = False
    rows: list[bytes] = field(default_factory=list)


@dataclass
class Model:
    """What was promised, over all lives of the broker."""

    txns: dict[tuple[str, int], Txn] = field(default_factory=dict)
    given: set[Producer] = field(default_factory=set)
    seen: set[bytes] = field(default_factory=set)
    """Rows that a read_committed reader had."""

    def begin(self, name: str) -> Txn:
        number = 1 + max((n for other, n in self.txns if other == name), default=0)
        self.txns[name, number] = Txn(name, number)
        return self.txns[name, number]


class Coordinators:
    """One life of a broker, from its directory to whatever ends it. Made within a running loop."""

    def __init__(self, data_dir: str, fs: FileSystem, model: Model, seed: int) -> None:
        clock = SystemClock()
        self.model = model
        self.random = random.Random(seed)
        self.store = LogStore(data_dir, fs=fs, clock=clock)
        self.store.open()
        settings = BrokerSettings(data_dir=data_dir, flush_interval=0.02, min_free=0)
        self.broker = Broker(settings, self.store, fs=fs, clock=clock, host="127.0.0.1", port=0)
        self.groups = self.broker.groups = Groups(self.broker)
        self.transactions = self.broker.transactions = Transactions(self.broker)

    async def load(self) -> None:
        await self.broker.ensure_topic(TOPIC, PARTITIONS, {})
        await self.groups.load()
        await self.transactions.load()

    async def work(self, transactions: int) -> None:
        """Two transactional ids, one of them with a rival at times."""
        await asyncio.gather(
            self._produce("ada", transactions),
            self._produce("bob", transactions),
            self._produce("bob", transactions // 3, after=self.random.randrange(30)),
        )

    async def settle(self) -> None:
        """Takes every transactional id over, so that nothing is left open, and fsyncs."""
        for name in NAMES:
            await self._initialize(name)
        for topic in self.store.topics().values():
            for log in topic.partitions:
                await self.broker.synced(log, log.leo)

    async def abandon(self) -> None:
        """As a kill leaves it: nothing more is written or synced."""
        await self.groups.close()
        await self.transactions.close()
        await self.broker.flusher.close()
        self.store.abandon()

    async def _initialize(self, name: str | None) -> Producer:
        for _ in range(1000):
            answer = await self.transactions.initialize(name, None, 60_000)
            if answer.error is ErrorCode.none:
                producer = Producer(answer.producer_id, answer.epoch)
                assert producer not in self.model.given, f"{producer} was given twice"
                self.model.given.add(producer)
                return producer
            assert answer.error in _AGAIN, answer
            await asyncio.sleep(0.001)
        raise AssertionError("no producer id")

    async def _again(self, ask: Callable[..., Awaitable[ErrorCode]], *what: Any, **more: Any) -> ErrorCode:
        """Repeats a request for as long as it is told to; the definite answer."""
        for _ in range(1000):
            error = await ask(*what, **more)
            if error not in _AGAIN:
                return error
            await asyncio.sleep(0.001)
        raise AssertionError("no definite answer")

    async def _produce(self, name: str, transactions: int, after: int = 0) -> None:
        for _ in range(after):
            await asyncio.sleep(0.002)
        producer = await self._initialize(name)
        sequences: Counter[int] = Counter()
        for _ in range(transactions):
            if self.random.random() < 0.1:
                await self._initialize(None)
            txn = self.model.begin(name)
            chosen = self.random.sample(range(PARTITIONS), self.random.randint(1, PARTITIONS))
            for partition in chosen:
                places = [(TOPIC, partition)]
                error = await self._again(self.transactions.add_partitions, name, producer, places)
                if error is not ErrorCode.none or not self._append(txn, producer, partition, sequences):
                    return
            if self.random.random() < 0.6 and not await self._commit_offsets(txn, producer):
                return
            roll = self.random.random()
            if roll < 0.08:
                producer, sequences = await self._initialize(name), Counter()
                continue
            txn.fate = "committing" if roll < 0.8 else "aborting"
            commits = txn.fate == "committing"
            error = await self._again(self.transactions.end, name, producer, commit=commits)
            if error is not ErrorCode.none:
                assert error is ErrorCode.producer_fenced, error
                return
            if commits:
                txn.fate = "committed"
            self.look()

    def _append(self, txn: Txn, producer: Producer, partition: int, sequences: Counter[int]) -> bool:
        """As Produce does; False when the producer was fenced."""
        for _ in range(self.random.randint(1, 3)):
            admitted = self.transactions.admits(
                txn.name, producer.producer_id, producer.epoch, TOPIC, partition
            )
            if admitted is not ErrorCode.none:
                assert admitted is ErrorCode.invalid_producer_epoch, admitted
                return False
            values = [f"{txn.name}/{txn.number}/{len(txn.rows) + i}".encode() for i in range(3)]
            records = [SimpleRecord(None, value, (), 0, i) for i, value in enumerate(values)]
            fields = BatchFields(
                producer_id=producer.producer_id,
                producer_epoch=producer.epoch,
                base_sequence=sequences[partition],
                transactional=True,
            )
            self.broker.append(self.broker.log(TOPIC, partition), encode_simple(records, fields))
            sequences[partition] += len(records)
            txn.rows += values
        return True

    async def _commit_offsets(self, txn: Txn, producer: Producer) -> bool:
        error = await self._again(self.transactions.add_group, txn.name, producer, txn.name)
        if error is not ErrorCode.none:
            return False
        if self.transactions.admits_offsets(txn.name, producer, txn.name) is not ErrorCode.none:
            return False
        offsets = {(TOPIC, 0): (txn.number, -1, "")}
        request = CommitRequest(txn.name, "", None, -1, offsets, (producer.producer_id, producer.epoch))
        for _ in range(1000):
            errors = await self.groups.commit(request)
            if errors[TOPIC, 0] not in _AGAIN:
                txn.offsets = errors[TOPIC, 0] is ErrorCode.none
                return txn.offsets
        raise AssertionError("no definite answer")

    def look(self) -> None:
        """What a read_committed reader gets now; it must never be taken back."""
        for partition in range(PARTITIONS):
            log = self.broker.log(TOPIC, partition)
            self.model.seen.update(committed_rows(log, log.lso))

    async def check(self) -> None:
        """After settle()."""
        rows: Counter[bytes] = Counter()
        for partition in range(PARTITIONS):
            log = self.broker.log(TOPIC, partition)
            assert log.lso == log.leo, f"a transaction is left open in partition {partition}"
            rows.update(committed_rows(log, log.lso))
        assert set(rows.values()) <= {1}, "a row is there twice"
        assert self.model.seen <= rows.keys(), "a row that was read is gone"
        for name in NAMES:
            last = -1
            for txn in sorted(
                (t for t in self.model.txns.values() if t.name == name), key=lambda t: t.number
            ):
                there = sum(row in rows for row in txn.rows)
                expected = {"committed": {len(txn.rows)}, "committing": {0, len(txn.rows)}}.get(txn.fate, {0})
                assert there in expected, f"{txn.fate} {name}/{txn.number}: {there} of {len(txn.rows)} rows"
                if there and txn.offsets:
                    last = txn.number
            fetched = await self.groups.fetch(name, [(TOPIC, 0)], require_stable=True)
            answer = fetched.offsets[0][1]
            assert answer.error is ErrorCode.none, answer
            assert answer.offset == last, f"{name} committed offset {last}, the group has {answer.offset}"


def committed_rows(log: PartitionLog, upto: int) -> list[bytes]:
    """Values below `upto` of transactions that were committed there, found by the markers alone."""
    rows: list[bytes] = []
    waiting: dict[int, list[bytes]] = {}
    offset = log.log_start
    while offset < upto and (found := log.read(offset, 1 << 20, upto)) is not None:
        data = found.read()
        for at, header in headers(data):
            offset = header.next_offset
            if header.is_control:
                held = waiting.pop(header.producer_id, [])
                rows += held if read_control(data[at : at + header.size]).commit else []
            else:
                waiting.setdefault(header.producer_id, []).extend(
                    r.value or b"" for r in decode_simple(data, at)
                )
    return rows
