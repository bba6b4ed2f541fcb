"""The thread of one sink: takes batches from its channel, writes each position once, commits when it is due.

It owns every rule about what a sink may take (delivery.md): assignment numbers, rows it already has, holes,
and starting over when the sink lost what was uncommitted or somebody else took it over.
"""

import threading
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import structlog

from tailrace.agents.admission import Admission
from tailrace.agents.fences import Fences
from tailrace.agents.mailbox import Declined, Left, Mailbox
from tailrace.agents.patience import Patience
from tailrace.agents.positions import KeptOrigins
from tailrace.clock import Clock
from tailrace.component import ALL, Channel, DurableChannel, Membership, Scope, Sink
from tailrace.errors import Fenced, Rewind
from tailrace.event import Partition, Record

TURN = 0.05
"""Seconds a turn waits for a batch: also how long a call from another thread may wait."""


class Feeder(Protocol):
    """A source before a sink, as the sink's thread sees it. Both verbs return at once."""

    def rewind(self) -> None:
        """The sink dropped what it had not committed: acquire everything again, and seek."""
        ...

    def committed(self, positions: Mapping[Partition, int], stamp: str) -> None:
        """The sink has stored everything before these positions."""
        ...


@dataclass(frozen=True, slots=True)
class Acquired:
    """What a sink has of some partitions, and the number that their batches must carry from now on."""

    records: Mapping[Partition, Record]
    assignment: int
    stamp: str


class SinkLoop:
    """One sink and the channel it empties. `durable` is that channel, when it has positions of its own."""

    def __init__(
        self,
        name: str,
        sink: Sink,
        channel: Channel,
        *,
        durable: DurableChannel | None,
        origins: KeptOrigins | None,
        leave: threading.Event,
        clock: Clock,
    ) -> None:
        self.name = name
        self.sink = sink
        self.feeders: list[Feeder] = []
        self.stored: Future[Mapping[Partition, Record]] = Future()
        """What the sink had of ALL partitions at its start."""
        self.patience = Patience(name, leave, clock)
        self.committed_at: float | None = None
        """Monotonic moment of the last commit."""
        self.committed_ms: int | None = None
        """The same moment, in ms since the epoch."""
        self._clock = clock
        self._channel = channel
        self._durable = durable
        self._origins = origins
        self._leave = leave
        self._mailbox = Mailbox()
        self._admission = Admission()
        self._assignment = 0
        self._states: dict[Partition, bytes | None] = {}
        self._fences = Fences(name, clock)
        self._log = structlog.get_logger().bind(component=name)

    # Called by other threads.

    def acquire(self, partitions: Collection[Partition], membership: Membership | None) -> Future[Acquired]:
        """Declined: the sink was fenced or starts over; ask again later."""
        return self._mailbox.ask(lambda: self._acquire(partitions, membership))

    def revoke(self, partitions: Collection[Partition], lost: bool) -> Future[None]:
        """Commits unless lost, and takes no more of these partitions."""
        return self._mailbox.ask(lambda: self._revoke(partitions, lost))

    def settle(self) -> Future[bool]:
        """Empties the channel and commits; False when the sink had to start over."""
        return self._mailbox.ask(self._settle)

    # The sink's own thread, from here on.

    def run(self) -> None:
        try:
            self.patience(self.sink.open)
            self._begin()
            while not self._leave.is_set():
                try:
                    self._mailbox.serve()
                    self._turn(TURN)
                except (Rewind, Fenced) as error:
                    self._start_over(error)
        except Left:
            pass
        finally:
            self.sink.close()
            if self._origins is not None:
                self._origins.close()

    def _turn(self, timeout: float) -> bool:
        """At most one batch and one commit; False when the channel had nothing."""
        batch = self._channel.take(timeout)
        if batch is not None and (admitted := self._admission.admit(batch)) is not None:
            self.patience(self.sink.write, admitted)
            self._states[admitted.partition] = admitted.state
        if self.sink.due():
            self._commit()
        return batch is not None

    def _commit(self) -> None:
        committed = self.patience(self.sink.commit)
        if not committed:
            return
        self._fences.went_well()
        self.committed_at, self.committed_ms = self._clock.monotonic(), self._clock.now_ms()
        if self._origins is not None:
            records = {p: Record(end, self._states.get(p)) for p, end in committed.items()}
            self.patience(self._origins.store, records)
        if self._durable is None:
            for feeder in self.feeders:
                feeder.committed(committed, self.sink.stamp)
        elif self._durable.partition in committed:
            self._durable.release(committed[self._durable.partition])

    def _settle(self) -> bool:
        try:
            while self._turn(0):
                pass
            self._commit()
        except (Rewind, Fenced) as error:
            self._start_over(error)
            return False
        return True

    def _begin(self) -> None:
        while True:
            try:
                records = self._records(ALL, None)
                self._seek_durable()
                break
            except (Rewind, Fenced) as error:
                self._pause(error)
        self.stored.set_result(records)

    def _start_over(self, error: Rewind | Fenced) -> None:
        """Forgets what is uncommitted, and has everything after it read again."""
        self._log.warning("starts over from what is committed", reason=str(error))
        self.sink.abort()
        self._admission.clear()
        self._states.clear()
        self._channel.clear()
        while True:
            try:
                self._pause(error)
                self._seek_durable()
                break
            except (Rewind, Fenced) as again:
                error = again
        if self._durable is None:
            for feeder in self.feeders:
                feeder.rewind()

    def _seek_durable(self) -> None:
        if self._durable is not None:
            origin = self._durable.partition
            records = self._records([origin], None)
            self._admission.assign([origin], records, 0)
            self._durable.seek(records.get(origin))

    def _acquire(self, partitions: Collection[Partition], membership: Membership | None) -> Acquired:
        try:
            records = self._records(partitions, membership)
        except (Rewind, Fenced) as error:
            if not (isinstance(error, Fenced) and membership is not None):
                self._start_over(error)
            raise Declined(str(error)) from error
        self._assignment += 1
        self._fences.membership = membership or self._fences.membership
        self._admission.assign(partitions, records, self._assignment)
        return Acquired(records, self._assignment, self.sink.stamp)

    def _revoke(self, partitions: Collection[Partition], lost: bool) -> None:
        try:
            if not lost:
                self._commit()
            self.patience(self.sink.revoke, partitions, lost)
        except (Rewind, Fenced) as error:
            self._start_over(error)
            self.patience(self.sink.revoke, partitions, True)
        self._admission.revoke(partitions)
        for partition in partitions:
            self._states.pop(partition, None)

    def _records(
        self, partitions: Collection[Partition] | Scope, membership: Membership | None
    ) -> Mapping[Partition, Record]:
        if self._origins is not None:
            return self.patience(self._origins.records, partitions, membership)
        return self.patience(self.sink.acquire, partitions, membership)

    def _pause(self, error: Rewind | Fenced) -> None:
        if self._leave.wait(self._fences.pause(error)):
            raise Left
