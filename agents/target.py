"""What a source puts batches into: a sink behind a memory channel, or a durable channel, that acts as one."""

import threading
from collections.abc import Collection, Mapping
from typing import Protocol

import structlog

from tailrace.agents.admission import Admission
from tailrace.agents.mailbox import Left, answer_of
from tailrace.agents.patience import Patience
from tailrace.agents.sink_loop import SinkLoop
from tailrace.component import Channel, DurableChannel, Membership
from tailrace.event import EventBatch, Partition, Record

FULL = 0.1
"""Seconds that one put waits in a full channel before it looks whether the agent leaves."""

SAY_FULL = 600
"""Puts in vain (a minute) after which the log names the slow sink."""


class Upstream(Protocol):
    """The source before a target. Any thread; both return at once."""

    def rewind(self, target: "Target") -> None: ...

    def committed(self, target: "Target", positions: Mapping[Partition, int], stamp: str) -> None: ...


class Target(Protocol):
    """One of a source's ways out. The source's thread calls its verbs; each may wait, and raise Left."""

    def stored(self) -> Mapping[Partition, Record]:
        """What it had of ALL partitions when the agent started."""
        ...

    def acquire(
        self, partitions: Collection[Partition], membership: Membership | None
    ) -> Mapping[Partition, Record]:
        """What it has of `partitions`; from now on it takes batches of them. Raises Declined: ask later."""
        ...

    def put(self, batch: EventBatch) -> None:
        """Returns when the channel answers for the batch."""
        ...

    def revoke(self, partitions: Collection[Partition], lost: bool) -> None:
        """What was put of them is committed (unless lost) or dropped when this returns."""
        ...


class SinkTarget:
    """Through a channel that keeps nothing, to a sink: origins are the sink's."""

    def __init__(self, upstream: Upstream, channel: Channel, loop: SinkLoop, leave: threading.Event) -> None:
        self._upstream = upstream
        self._channel = channel
        self._loop = loop
        self._leave = leave
        self._assignments: dict[Partition, int] = {}
        self._log = structlog.get_logger().bind(component=loop.name)
        loop.feeders.append(self)

    def stored(self) -> Mapping[Partition, Record]:
        return answer_of(self._loop.stored, self._leave)

    def acquire(
        self, partitions: Collection[Partition], membership: Membership | None
    ) -> Mapping[Partition, Record]:
        acquired = answer_of(self._loop.acquire(partitions, membership), self._leave)
        self._assignments |= dict.fromkeys(partitions, acquired.assignment)
        self.committed({p: record.position for p, record in acquired.records.items()}, acquired.stamp)
        return acquired.records

    def put(self, batch: EventBatch) -> None:
        batch = batch.with_assignment(self._assignments.get(batch.partition, -1))
        waited = 0
        while not self._channel.put(batch, FULL):
            if self._leave.is_set():
                raise Left
            waited += 1
            if waited % SAY_FULL == 0:
                self._log.warning("its channel is full: it is slower than its sources")

    def revoke(self, partitions: Collection[Partition], lost: bool) -> None:
        answer_of(self._loop.revoke(partitions, lost), self._leave)
        for partition in partitions:
            self._assignments.pop(partition, None)

    # Called by the sink's thread.

    def rewind(self) -> None:
        self._upstream.rewind(self)

    def committed(self, positions: Mapping[Partition, int], stamp: str) -> None:
        # One sink may have several sources: this one's partitions are those it has acquired here.
        ours = {p: position for p, position in positions.items() if p in self._assignments}
        self._upstream.committed(self, ours, stamp)


class DurableTarget:
    """Into a durable channel: what it answered for is committed, as far as this source is concerned."""

    def __init__(
        self, upstream: Upstream, channel: DurableChannel, patience: Patience, leave: threading.Event
    ) -> None:
        self._upstream = upstream
        self._channel = channel
        self._patience = patience
        self._leave = leave
        self._admission = Admission()

    def stored(self) -> Mapping[Partition, Record]:
        return self._channel.committed()

    def acquire(
        self, partitions: Collection[Partition], membership: Membership | None
    ) -> Mapping[Partition, Record]:
        stored = self._channel.committed()
        records = {p: stored[p] for p in partitions if p in stored}
        self._admission.assign(partitions, records, 0)
        self._upstream.committed(self, {p: record.position for p, record in records.items()}, "")
        return records

    def put(self, batch: EventBatch) -> None:
        admitted = self._admission.admit(batch)
        if admitted is None:
            return
        while not self._patience(self._channel.put, admitted, FULL):
            if self._leave.is_set():
                raise Left
        self._upstream.committed(self, {batch.partition: batch.span.end}, "")

    def revoke(self, partitions: Collection[Partition], lost: bool) -> None:
        self._admission.revoke(partitions)
