"""Random histories of a log store, and the model that says what must be there after a crash at any moment.

The driver tells what it is about to do and what was answered; the model needs only these reports, so the driver
may run in this process (power cuts) or in a child that is killed.
"""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tailrace.broker.log.config import LogConfig
from tailrace.broker.log.errors import LogError
from tailrace.broker.log.log import PartitionLog
from tailrace.broker.log.store import LogStore
from tailrace.broker.wire.batch import read_header
from tailrace.broker.wire.reference import decode_simple
from tailrace.clock import ManualClock
from tailrace.fs import FileSystem
from tests.support.batches import keyed, marker, numbered, plain

DEFAULTS = LogConfig(segment_bytes=600, index_interval_bytes=150, min_cleanable_dirty_ratio=0.0)
COMPACT = {"cleanup.policy": "compact", "segment.bytes": "400", "delete.retention.ms": "3600000"}
Report = Callable[..., None]


@dataclass
class TopicModel:
    """What is known of one topic (of one partition) from the reports."""

    compact: bool = False
    rows: dict[int, tuple[str, str]] = field(default_factory=dict)
    """offset -> (key or "", value); markers are ("", "commit" or "abort")."""
    leo: int = 0
    durable: int = 0
    start: int = 0
    start_wanted: int = 0
    trying: list[tuple[str, str]] = field(default_factory=list)
    epoch: int = -1


class Model:
    """Fed by reports; `check` compares a reopened store with it and then takes what was found for granted."""

    def __init__(self) -> None:
        self.topics: dict[str, TopicModel] = {}
        self.creating: dict[str, TopicModel] = {}
        self.deleting: set[str] = set()

    def report(self, what: str, name: str, *rest) -> None:
        getattr(self, f"_{what}")(name, *rest)

    def _create(self, name, compact):
        self.creating[name] = TopicModel(compact)

    def _created(self, name):
        self.topics[name] = self.creating.pop(name)

    def _delete(self, name):
        self.deleting.add(name)

    def _deleted(self, name):
        del self.topics[name]
        self.deleting.discard(name)

    def _append(self, name, rows):
        self.topics[name].trying = [tuple(row) for row in rows]

    def _refused(self, name):
        self.topics[name].trying = []

    def _appended(self, name, first):
        topic = self.topics[name]
        assert first == topic.leo, f"{name}: appended at {first}, the log ended at {topic.leo}"
        for i, row in enumerate(topic.trying):
            topic.rows[first + i] = row
        topic.leo += len(topic.trying)
        topic.trying = []

    def _flushed(self, name, offset):
        self.topics[name].durable = max(self.topics[name].durable, offset)

    def _start(self, name, offset):
        self.topics[name].start_wanted = max(self.topics[name].start_wanted, offset)

    def _started(self, name, offset):
        self.topics[name].start = offset

    def _damaged(self, name):
        topic = self.topics[name]
        topic.leo = topic.durable

    def _reopened(self, name, leo):
        """The driver itself opened the store again, after letting go of it."""
        topic = self.topics[name]
        topic.rows = {offset: row for offset, row in topic.rows.items() if offset < leo}
        topic.leo = topic.durable = leo

    def check(self, store: LogStore, *, kept: str) -> None:
        """Raises AssertionError naming the broken promise. kept: `durable` (power cut) or `appended` (SIGKILL)."""
        there = store.topics()
        for name in self.topics:
            assert name in there or name in self.deleting, f"topic {name} was created, and is gone"
        for name in there:
            if name in self.creating:
                self.topics[name] = self.creating[name]
            assert name in self.topics, f"topic {name} was deleted, or never created, and is there"
        self.topics = {name: topic for name, topic in self.topics.items() if name in there}
        self.creating, self.deleting = {}, set()
        for name, topic in self.topics.items():
            log = store.log(name, 0)
            assert log is not None
            self._check_log(name, topic, log, topic.durable if kept == "durable" else topic.leo)

    def _check_log(self, name: str, topic: TopicModel, log: PartitionLog, least: int) -> None:
        for i, row in enumerate(topic.trying):
            topic.rows[topic.leo + i] = row
        most = topic.leo + len(topic.trying)
        known = max([most, *(offset + 1 for offset in topic.rows)])
        assert least <= log.leo <= known, f"{name}: LEO {log.leo}, answered for {least}, sent {known}"
        assert topic.start <= log.log_start <= max(topic.start, topic.start_wanted), (
            f"{name}: log start {log.log_start}"
        )
        assert log.flushed == log.leo, f"{name}: recovered to {log.leo} but only {log.flushed} is durable"
        batches = read_batches(log)
        found = {}
        next_offset = None
        for header, records in batches:
            if not topic.compact and next_offset is not None:
                assert header.base_offset == next_offset, (
                    f"{name}: {next_offset} is missing, {header.base_offset} follows"
                )
            next_offset = header.next_offset
            for record in records:
                if record.offset >= log.log_start:
                    found[record.offset] = as_row(header, record)
        if not topic.compact:
            wanted = {offset: row for offset, row in topic.rows.items() if log.log_start <= offset < log.leo}
            assert found == wanted, (
                f"{name}: rows differ: {sorted(set(found.items()) ^ set(wanted.items()))[:6]}"
            )
        else:
            check_compacted(name, topic, found, log)
        check_producers(name, log, batches)
        assert log.leader_epoch >= topic.epoch, f"{name}: leader epoch went back to {log.leader_epoch}"
        topic.epoch = log.leader_epoch
        topic.rows = {offset: row for offset, row in topic.rows.items() if offset < log.leo}
        topic.leo = topic.durable = log.leo
        topic.start = topic.start_wanted = log.log_start
        topic.trying = []


def check_compacted(
    name: str, topic: TopicModel, found: dict[int, tuple[str, str]], log: PartitionLog
) -> None:
    """Nothing invented, and the last value of each key is there."""
    for offset, row in found.items():
        assert topic.rows.get(offset) == row, (
            f"{name}: offset {offset} holds {row}, {topic.rows.get(offset)} was sent"
        )
    last: dict[str, int] = {}
    for offset, (key, _) in sorted(topic.rows.items()):
        if offset < log.leo and key:
            last[key] = offset
    for key, offset in last.items():
        if topic.rows[offset][1] != "None":
            assert offset in found, f"{name}: the last value of {key} at {offset} is gone"


def read_batches(log: PartitionLog):
    """(header, records) of every batch from the log's start on."""
    found = []
    offset = log.log_start
    while (part := log.read(offset, 1 << 20, log.leo)) is not None:
        data = part.read()
        at = 0
        while at < len(data):
            header = read_header(data, at)
            body = data[at : at + header.size]
            found.append((header, decode_simple(body) if header.count else []))
            offset = header.next_offset
            at += header.size
    return found


def as_row(header, record) -> tuple[str, str]:
    if header.is_control:
        return "", "commit" if record.key[3] else "abort"
    return (record.key or b"").decode(), str(record.value and record.value.decode())


def check_producers(name: str, log: PartitionLog, batches) -> None:
    """The producers' state is what a plain reading of the log's batches says; so are LSO and the aborted list."""
    last: dict[int, tuple[int, int]] = {}
    open_since: dict[int, int] = {}
    aborted = set()
    for header, records in batches:
        pid = header.producer_id
        if pid < 0:
            continue
        if header.is_control:
            first = open_since.pop(pid, None)
            if records and not records[0].key[3] and first is not None:
                aborted.add((pid, first))
            if last.get(pid, (header.producer_epoch,))[0] != header.producer_epoch:
                last[pid] = (header.producer_epoch, -1)
            last.setdefault(pid, (header.producer_epoch, -1))
            continue
        last[pid] = (header.producer_epoch, (header.base_sequence + header.last_offset_delta) & (2**31 - 1))
        if header.is_transactional and header.count:
            open_since.setdefault(pid, header.base_offset)
    states = log.producers()
    for pid, (epoch, sequence) in last.items():
        assert pid in states, f"{name}: producer {pid} was forgotten"
        found = (states[pid].epoch, states[pid].last_sequence)
        if sequence < 0 and log.log_start > 0:  # its data is gone by retention, and the state may know more
            found, sequence = (found[0], -1), -1
        assert found == (epoch, sequence), (
            f"{name}: producer {pid} is at {found}, the log says {(epoch, sequence)}"
        )
    if log.log_start == 0:
        wanted = min(open_since.values(), default=log.hw)
        assert log.lso == wanted, f"{name}: LSO {log.lso}, the log says {wanted}"
        listed = {(a.producer_id, a.first_offset) for a in log.aborted(0, log.leo)}
        assert aborted <= listed or log.config.compact, f"{name}: aborted {aborted}, the index says {listed}"


class Driver:
    """Does random things to a store under `directory`, and reports each."""

    def __init__(self, directory: str, fs: FileSystem, seed: int, report: Report, tag: str = "") -> None:
        self.clock = ManualClock()
        self.directory = directory
        self.fs = fs
        self.random = random.Random(seed)
        self.say = report
        self.tag = tag
        self.made = 0
        self.sequences: dict[str, dict[int, tuple[int, int]]] = {}
        self.store = self.open()

    def open(self) -> LogStore:
        store = LogStore(self.directory, fs=self.fs, clock=self.clock, defaults=DEFAULTS)
        store.open()
        self.sequences = {name: {} for name in store.topics()}
        return store

    def run(self, steps: int) -> None:
        verbs = [
            (self.append, 12), (self.flush, 4), (self.create, 1), (self.delete, 1), (self.trim, 1),
            (self.housekeeping, 2), (self.checkpoint, 1), (self.reopen, 1), (self.crash, 1), (self.end_some, 3),
        ]  # fmt: skip
        self.create()
        for _ in range(steps):
            verb = self.random.choices([v for v, _ in verbs], [w for _, w in verbs])[0]
            verb()
            self.clock.advance(self.random.random() * 20)

    def pick(self) -> tuple[str, PartitionLog] | None:
        names = sorted(self.store.topics())
        if not names:
            return None
        name = self.random.choice(names)
        return name, self.store.topics()[name].partitions[0]

    def create(self) -> None:
        if len(self.store.topics()) >= 3:
            return
        self.made += 1
        compact = self.random.random() < 0.4
        name = f"t{self.random.randrange(4)}{'c' if compact else ''}"
        if self.store.topic(name) is not None:
            return
        self.say("create", name, compact)
        self.store.create(name, 1, COMPACT if compact else {})
        self.sequences[name] = {}
        self.say("created", name)

    def delete(self) -> None:
        picked = self.pick()
        if picked and self.random.random() < 0.3:
            self.say("delete", picked[0])
            self.store.delete(picked[0])
            self.say("deleted", picked[0])

    def append(self) -> None:
        picked = self.pick()
        if not picked:
            return
        name, log = picked
        count = self.random.randint(1, 3)
        self.made += count
        values = [f"{self.tag}{self.made}.{i}-{'x' * self.random.randrange(60)}" for i in range(count)]
        now = self.clock.now_ms()
        if name.endswith("c"):
            keys = [f"k{self.random.randrange(6)}" for _ in values]
            rows = [
                (k, None if self.random.random() < 0.15 else v) for k, v in zip(keys, values, strict=True)
            ]
            batch = keyed([(k.encode(), v and v.encode()) for k, v in rows], timestamp=now)
            self.put(name, log, batch, [(k, str(v)) for k, v in rows])
        elif self.random.random() < 0.4:
            batch = plain(*(v.encode() for v in values), timestamp=now)
            self.put(name, log, batch, [("", v) for v in values])
        else:
            self.append_numbered(name, log, values)

    def append_numbered(self, name: str, log: PartitionLog, values: list[str]) -> None:
        pid = self.random.randrange(3)
        state = log.producers().get(pid)
        epoch, sequence = (state.epoch, state.last_sequence + 1) if state else (0, 0)
        transactional = pid > 0
        batch = numbered(
            pid,
            epoch,
            sequence,
            *(v.encode() for v in values),
            transactional=transactional,
            timestamp=self.clock.now_ms(),
        )
        self.put(name, log, batch, [("", v) for v in values])

    def put(self, name: str, log: PartitionLog, batch: bytearray, rows, control: bool = False) -> None:
        self.say("append", name, rows)
        try:
            done = log.append(batch, control=control)
        except LogError:
            self.say("refused", name)
            raise
        self.say("appended", name, done.first_offset)

    def end_some(self) -> None:
        picked = self.pick()
        if picked:
            name, log = picked
            for pid, state in log.producers().items():
                if state.first_open >= 0:
                    commit = self.random.random() < 0.5
                    batch = marker(pid, state.epoch, commit, timestamp=self.clock.now_ms())
                    self.put(name, log, batch, [("", "commit" if commit else "abort")], control=True)
                    break

    def flush(self) -> None:
        picked = self.pick()
        if picked:
            self.say("flushed", picked[0], picked[1].flush())

    def trim(self) -> None:
        picked = self.pick()
        if picked and not picked[0].endswith("c") and self.random.random() < 0.5:
            name, log = picked
            offset = (
                self.random.randint(log.log_start, log.flushed)
                if log.flushed > log.log_start
                else log.log_start
            )
            self.say("start", name, offset)
            self.say("started", name, log.delete_before(offset))

    def housekeeping(self) -> None:
        self.store.housekeeping()

    def checkpoint(self) -> None:
        self.store.checkpoint()

    def reopen(self) -> None:
        """A clean stop and start."""
        self.close()
        self.store = self.open()

    def close(self) -> None:
        self.store.close()
        for name, topic in self.store.topics().items():
            self.say("flushed", name, topic.partitions[0].leo)

    def crash(self) -> None:
        """An unclean stop and start in this process, at times with damage in what was not yet durable."""
        hurt = self.pick()
        place = None
        if hurt is not None and self.random.random() < 0.7:
            name, log = hurt
            found = log.read(log.flushed, 1 << 20, log.leo) if log.flushed >= log.log_start else None
            if found is not None:
                place = (found.file.path, found.position + self.random.randrange(found.length))
                self.say("damaged", name)
        leftover = hurt and self.random.random() < 0.5
        self.store.abandon()
        if leftover:
            path = os.path.join(hurt[1].directory, f"{hurt[1].leo:020d}.log.cleaned")
            os.close(self.fs.open(path, os.O_WRONLY | os.O_CREAT))
        if place is not None:
            fd = os.open(place[0], os.O_RDWR)
            os.pwrite(fd, b"\xff\x00\xff", place[1])
            os.close(fd)
        self.store = self.open()
        for name, topic in self.store.topics().items():
            self.say("reopened", name, topic.partitions[0].leo)
