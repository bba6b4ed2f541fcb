"""Replays a transcript of transactions: commands at the margin, what they must print indented below.

    init ID [producer=P.E] [timeout=MS]     add ID P.E t-0 ...      end ID P.E commit|abort
    synced ID (its rows are on disk)        failed ID (they are not)        done ID (its markers are on disk)
    admits ID P.E t-0       tick MS     crash       fail (the next append)      expire      state ID

P.E is a producer id and epoch. Run pytest with TAILRACE_REWRITE=1 to write what came out into the file.
"""

from collections.abc import Iterator

from tailrace.broker.coordinator.moment import Moment
from tailrace.broker.coordinator.offsets import TopicPartition
from tailrace.broker.coordinator.producer_ids import ProducerIds
from tailrace.broker.coordinator.transaction import Markers, TxnState, TxnStep
from tailrace.broker.coordinator.transaction_rules import Producer
from tailrace.broker.coordinator.transactions import TransactionCoordinator
from tailrace.broker.wire.coordinator_records import (
    TransactionLogValue,
    decode_transaction_key,
    decode_value,
)
from tailrace.broker.wire.errors import ErrorCode


class TransactionTranscript:
    def __init__(self) -> None:
        self.now = Moment(1_700_000_000_000, 0)
        self.ids = ProducerIds(0)
        self.ids.claimed(self.ids.claim())
        self.log: list[tuple[bytes, bytes | None]] = []
        self.fails = False
        self.coordinator = TransactionCoordinator()

    def play(self, text: str) -> str:
        """The transcript again, with what really came out."""
        out: list[str] = []
        for line in text.splitlines():
            if line.startswith("    "):
                continue
            out.append(line)
            if line and not line.startswith("#"):
                verb, *words = line.split()
                out += ["    " + printed for printed in getattr(self, "_" + verb)(*words) or ()]
        return "\n".join(out) + "\n"

    def _init(self, name: str, *options: str) -> Iterator[str]:
        values = dict(option.split("=") for option in options)
        expected = _producer(values["producer"]) if "producer" in values else None
        timeout = int(values.get("timeout", 60_000))
        answer, step = self.coordinator.initialize(name, expected, timeout, self.ids.take, self.now)
        yield from self._carry_out(step)
        if answer.error is ErrorCode.none:
            yield f"producer {answer.producer_id}.{answer.epoch}"
        else:
            yield _name(answer.error)

    def _add(self, name: str, producer: str, *places: str) -> Iterator[str]:
        error, step = self.coordinator.add_partitions(
            name, _producer(producer), [_place(place) for place in places], self.now
        )
        yield from self._carry_out(step)
        yield _name(error)

    def _end(self, name: str, producer: str, how: str) -> Iterator[str]:
        error, step = self.coordinator.end(name, _producer(producer), commit=how == "commit", now=self.now)
        yield from self._carry_out(step)
        if step is None or step.flush is None:
            yield _name(error)

    def _synced(self, name: str) -> Iterator[str]:
        yield from self._carry_out(self.coordinator.prepare(name, self.now))

    def _failed(self, name: str) -> None:
        self.coordinator.give_up(name)

    def _done(self, name: str) -> Iterator[str]:
        yield from self._carry_out(self.coordinator.complete(name, self.now))

    def _admits(self, name: str, producer: str, place: str) -> Iterator[str]:
        yield _name(self.coordinator.admits(name, _producer(producer), _place(place)))

    def _tick(self, ms: str) -> Iterator[str]:
        end = self.now.steady + int(ms)
        while (due := self.coordinator.next_deadline()) is not None and due <= end:
            self._turn_to(max(due, self.now.steady))
            for step in self.coordinator.due(self.now):
                yield from self._carry_out(step)
        self._turn_to(end)

    def _turn_to(self, steady: int) -> None:
        self.now = Moment(self.now.wall + steady - self.now.steady, steady)

    def _crash(self) -> Iterator[str]:
        self.coordinator = TransactionCoordinator()
        self.coordinator.replay((at, key, value) for at, (key, value) in enumerate(self.log))
        self.now = Moment(self.now.wall, 0)
        for markers in self.coordinator.resume(self.now):
            yield _show_markers(markers)

    def _fail(self) -> None:
        self.fails = True

    def _expire(self) -> Iterator[str]:
        for step in self.coordinator.expired(self.now):
            yield from self._carry_out(step)

    def _state(self, name: str) -> Iterator[str]:
        txn = self.coordinator.transaction(name)
        if txn is None:
            yield "unknown"
        else:
            yield f"{txn.state.name} {txn.producer_id}.{txn.epoch} {_show(txn.partitions)}".rstrip()

    def _carry_out(self, step: TxnStep | None) -> Iterator[str]:
        if step is None:
            return
        if step.records and self.fails:
            self.fails = False
            yield "(not logged)"
            return
        self.log += step.records
        self.coordinator.settle(step)
        if step.flush is not None:
            yield f"sync {_show(step.flush)}"
        for key_bytes, value in step.records:
            key = decode_transaction_key(key_bytes)
            assert key is not None
            if value is None:
                yield f"log: {key.transactional_id} gone"
                continue
            stored = decode_value(TransactionLogValue, value)
            state = TxnState(stored.status).name
            yield f"log: {key.transactional_id} {state} {stored.producer_id}.{stored.producer_epoch}"
        if step.markers is not None:
            yield _show_markers(step.markers)


def _show_markers(markers: Markers) -> str:
    how = "commit" if markers.commit else "abort"
    producer = f"{markers.producer_id}.{markers.epoch}"
    return f"markers: {markers.transactional_id} {how} {producer} {_show(markers.partitions)}"


def _show(places: frozenset[TopicPartition]) -> str:
    return ",".join(f"{topic}-{partition}" for topic, partition in sorted(places))


def _name(error: ErrorCode) -> str:
    return error.name.upper()


def _producer(text: str) -> Producer:
    producer_id, _, epoch = text.partition(".")
    return Producer(int(producer_id), int(epoch))


def _place(text: str) -> TopicPartition:
    topic, _, partition = text.rpartition("-")
    return topic, int(partition)
