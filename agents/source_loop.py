"""The thread of one source: reads batches, puts them into every channel, seeks the source to what sinks have.

The source is sought to the least position of its targets; each drops what it already has (admission.py).
"""

import threading
from collections.abc import Collection, Mapping, Sequence
from queue import Empty, SimpleQueue

from tailrace.agents.commits import Commits
from tailrace.agents.mailbox import Declined, Left
from tailrace.agents.meter import Meter
from tailrace.agents.patience import Patience
from tailrace.agents.target import Target
from tailrace.clock import Clock
from tailrace.component import Assigned, Membership, Revoked, Source
from tailrace.errors import Corrupt, Finished
from tailrace.event import EventBatch, Partition, Record

TURN = 0.1
"""Seconds that one read waits for rows."""
ASK_AGAIN = 1.0
"""Seconds after which a target that declined is asked again."""


class SourceLoop:
    """One source, and the targets that take every row of it."""

    def __init__(self, name: str, source: Source, leave: threading.Event, clock: Clock) -> None:
        self.name = name
        self.source = source
        self.patience = Patience(name, leave, clock)
        self.meter = Meter()
        self.began: float | None = None
        """Monotonic moment of the first batch."""
        self.began_ms: int | None = None
        """The same moment, in ms since the epoch."""
        self._leave = leave
        self._clock = clock
        self._targets: list[Target] = []
        self._commits = Commits()
        self._membership: Membership | None = None
        self._given: dict[Partition, Record | None] = {}
        """The partitions assigned to us, and up to where every target has their rows (None: the start)."""
        self._unsought: set[Partition] = set()
        """Those of them whose start no target has told yet."""
        self._stale: dict[Target, float] = {}
        """Targets to be asked again what they have, and not before when."""
        self._rewinds: SimpleQueue[Target] = SimpleQueue()
        self._asked = 0
        self._asking = threading.Lock()
        self._rested_at = -1
        self._finished = False
        self._paused = threading.Event()

    def add(self, target: Target) -> None:
        """Before run(): one more way out, which takes every row."""
        self._targets.append(target)
        self._commits.add(target)

    # Called by other threads.

    def rewind(self, target: Target) -> None:
        self._rewinds.put(target)
        with self._asking:
            self._asked += 1

    def committed(self, target: Target, positions: Mapping[Partition, int], stamp: str) -> None:
        self._commits.post(target, positions, stamp)

    def pause(self) -> None:
        """Reads no more, for good."""
        self._paused.set()

    @property
    def resting(self) -> bool:
        """All that was read is in the channels, and no more will be until a target asks for it again."""
        return self._rested_at == self._asked

    # The source's own thread, from here on.

    def run(self) -> None:
        try:
            self.patience(self.source.open, [target.stored() for target in self._targets])
            while not self._leave.is_set():
                self._turn()
            self._commits.tell(self.source, self._clock.monotonic(), at_once=True)
        except Left:
            pass
        finally:
            self.source.close()

    def _turn(self) -> None:
        asked = self._asked  # before the queue is emptied: a rewind that comes later keeps us from resting
        self._serve_rewinds()
        self._commits.tell(self.source, self._clock.monotonic())
        if self._paused.is_set() or self._finished:
            if self._paused.is_set() or not self._stale:
                self._rested_at = asked
            self._leave.wait(TURN)
            return
        try:
            event = self.patience(self.source.read, TURN)
        except Finished:
            self._finished = True
            return
        if isinstance(event, EventBatch):
            self._put(event)
        elif isinstance(event, Assigned):
            self._assign(event)
        elif isinstance(event, Revoked):
            self._revoke(event)

    def _put(self, batch: EventBatch) -> None:
        if batch.partition not in self._given:
            raise Corrupt(f"{self.name}: a batch of {batch.partition.key}, which it was not assigned")
        if self.began is None:
            self.began, self.began_ms = self._clock.monotonic(), self._clock.now_ms()
        self.meter.count(batch)
        for target in self._targets:
            target.put(batch)
        self._given[batch.partition] = Record(batch.span.end, batch.state)

    def _assign(self, event: Assigned) -> None:
        self._membership = event.membership or self._membership
        self._given |= dict.fromkeys(event.partitions)
        self._unsought |= set(event.partitions)
        asked = [self._ask(target, event.partitions) for target in self._targets]
        self._seek(event.partitions, [records for records in asked if records is not None])

    def _revoke(self, event: Revoked) -> None:
        for target in self._targets:
            target.revoke(event.partitions, event.lost)
        if not event.lost:
            self._commits.tell(self.source, self._clock.monotonic(), at_once=True)
        self._commits.forget(event.partitions)
        self.meter.forget(event.partitions)
        self._unsought -= set(event.partitions)
        for partition in event.partitions:
            self._given.pop(partition, None)

    def _serve_rewinds(self) -> None:
        while True:
            try:
                self._stale[self._rewinds.get_nowait()] = 0.0
            except Empty:
                break
        now = self._clock.monotonic()
        for target in [target for target, not_before in self._stale.items() if not_before <= now]:
            del self._stale[target]
            self._finished = False
            records = self._ask(target, tuple(self._given))
            if records is not None:
                self._seek(tuple(self._given), [records])

    def _ask(self, target: Target, partitions: Collection[Partition]) -> Mapping[Partition, Record] | None:
        """What `target` has of `partitions`; None when it declines: it is asked for everything later."""
        try:
            return target.acquire(partitions, self._membership)
        except Declined:
            self._stale[target] = self._clock.monotonic() + ASK_AGAIN
            return None

    def _seek(self, partitions: Collection[Partition], stored: Sequence[Mapping[Partition, Record]]) -> None:
        """Seeks to the least of what targets have stored, and of what they have been given."""
        for partition in partitions if stored else ():
            positions = [records.get(partition) for records in stored]
            if partition in self._unsought:
                record = least(positions)
            else:
                given = self._given[partition]
                record = least([given, *positions])
                if record == given:
                    continue  # the source is there already
            self.patience(self.source.seek, partition, record)
            self._given[partition] = record
            self._unsought.discard(partition)


def least(records: Sequence[Record | None]) -> Record | None:
    """The record furthest back; None is the start."""
    if any(record is None for record in records):
        return None
    return min((record for record in records if record is not None), key=lambda record: record.position)
