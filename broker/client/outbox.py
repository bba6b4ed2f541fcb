"""Rows on their way to one partition: gathered, cut into record batches with sequence numbers, kept until
answered.

Order: a batch goes out only behind all earlier ones. When one fails, nothing more goes until every answer
still due has come; then all that is unanswered goes again, in order and with the same sequence numbers, so
that the broker drops what it has already (KIP-98).
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tailrace.broker.client.errors import RowTooLarge
from tailrace.broker.client.sizes import Sizes, cuts
from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.wire.batch import BatchFields, Codec
from tailrace.broker.wire.encode import encode_batches

SEQUENCES = 1 << 31
_MARGIN = 1024
"""Bytes between a row's estimated size and what is surely within the limit."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who produces: (-1, -1) is nobody in particular, and then there are no sequence numbers."""

    producer_id: int = -1
    epoch: int = -1
    transactional: bool = False

    @property
    def idempotent(self) -> bool:
        return self.producer_id >= 0


@dataclass(slots=True, eq=False)
class Batch:
    """Rows of one record batch, numbered from `sequence` on; `data` once encoded."""

    rows: pa.RecordBatch
    sequence: int = -1
    data: bytes | bytearray | memoryview | None = None
    sent: bool = False

    def newest(self) -> int:
        """The latest timestamp of its rows, ms since the epoch; -1 when none has one."""
        latest = pc.max(self.rows.column("timestamp").cast(pa.int64())).as_py()
        return -1 if latest is None else int(latest)


@dataclass(slots=True, eq=False)
class Outbox:
    """One partition's rows.

    limit      bytes of the largest batch the topic takes (max.message.bytes)
    target     bytes to gather for a batch
    node       where the batches in flight are
    in_flight  batches sent and not answered
    unsent     batches cut and not sent, or to be sent again
    """

    partition: TopicPartition
    identity: Identity
    codec: Codec
    limit: int
    target: int
    node: int | None = None
    in_flight: int = 0
    unsent: int = 0
    _next_sequence: int = 0
    _failed: bool = False
    _proven: bool = False
    _gathered: list[pa.RecordBatch] = field(default_factory=list)
    _gathered_size: int = 0
    _batches: deque[Batch] = field(default_factory=deque)

    @property
    def empty(self) -> bool:
        """True when nothing is gathered, waiting or unanswered."""
        return not self._batches and not self._gathered

    @property
    def ready(self) -> bool:
        """True when a batch may be sent now.

        Until one has been taken, at first and after a failure, batches go one at a time: a leader that
        refuses the first (it has only just become one) and takes the second knows no sequence yet that would
        be out of order.
        """
        return self.unsent > 0 and not self._failed and (self._proven or not self.in_flight)

    def check(self, rows: pa.RecordBatch, sizes: Sizes) -> None:
        """RowTooLarge when a row alone makes a batch larger than the limit, after compression."""
        for index in np.flatnonzero(sizes > self.limit - _MARGIN):
            size = len(self._encoded(Batch(rows.slice(int(index), 1))))
            if size > self.limit:
                raise RowTooLarge(self.partition, int(index), size, self.limit)

    def take(self, rows: pa.RecordBatch, sizes: Sizes) -> None:
        """Takes `rows`; what is half a batch or more is cut at once, smaller is gathered."""
        size = int(sizes.sum())
        if self._gathered_size + size > self.target:
            self.cut()
        if 2 * size < self.target:
            self._gathered.append(rows)
            self._gathered_size += size
            if 2 * self._gathered_size >= self.target:
                self.cut()
            return
        parts = -(-size // self.target)
        start, batches = 0, []
        # A row more than an even part: else rounding leaves a few rows over, for a batch of their own.
        ends = cuts(sizes, min(size // parts + int(sizes.max()), self.target))
        for end in ends:
            batches.append(self._append(rows.slice(start, end - start)))
            start = end
        if len(batches) > 1:
            # The vectors of the encoder are made once for all of them.
            fields = [self._fields(batch) for batch in batches]
            for batch, data in zip(batches, encode_batches(rows, ends, fields), strict=True):
                batch.data = data

    def cut(self) -> None:
        """What is gathered becomes a batch."""
        if self._gathered:
            gathered = self._gathered
            self._append(gathered[0] if len(gathered) == 1 else _joined(gathered))
            self._gathered, self._gathered_size = [], 0

    def next_batch(self) -> Batch | None:
        """The batch to send now, encoded and within the limit; None when there is none, or answers must come
        first."""
        if not self.ready:
            return None
        while True:
            batch = next((b for b in self._batches if not b.sent), None)
            if batch is None:
                return None
            if batch.data is None:
                batch.data = self._encoded(batch)
            if len(batch.data) <= self.limit:
                return batch
            self._split(batch)

    def sending(self, batch: Batch, node: int) -> None:
        batch.sent = True
        self.unsent -= 1
        self.in_flight += 1
        self.node = node

    def delivered(self, batch: Batch) -> None:
        self._batches.remove(batch)
        self._proven = True
        self._answered()

    def failed(self, batch: Batch) -> None:
        """It goes again, once the answers still due have come."""
        batch.sent = False
        self.unsent += 1
        self._failed, self._proven = True, False
        self._answered()

    def is_first(self, batch: Batch) -> bool:
        """True when nothing earlier is unanswered: an out-of-order sequence is then not the echo of another
        failure."""
        return self._batches[0] is batch

    def shrink(self, batch: Batch) -> None:
        """The topic takes less than was thought: this batch, and larger ones, will be split before they go
        again."""
        self.limit = min(self.limit, len(batch.data or b"") - 1)
        self.target = min(self.target, self.limit)

    def renumber(self, identity: Identity) -> None:
        """A new producer id: all that is unanswered (none of it in flight) is numbered from 0."""
        self.identity = identity
        self._next_sequence = 0
        for batch in self._batches:
            batch.sequence = self._take_sequences(batch.rows.num_rows)
            batch.data = None

    def _split(self, batch: Batch) -> None:
        """In two halves; RowTooLarge when it is one row."""
        count = batch.rows.num_rows
        if count == 1:
            raise RowTooLarge(self.partition, 0, len(batch.data or b""), self.limit)
        at = self._batches.index(batch)
        half = count // 2
        second = Batch(batch.rows.slice(half), self._after(batch.sequence, half))
        batch.rows, batch.data = batch.rows.slice(0, half), None
        self._batches.insert(at + 1, second)
        self.unsent += 1

    def _append(self, rows: pa.RecordBatch) -> Batch:
        batch = Batch(rows, self._take_sequences(rows.num_rows))
        self._batches.append(batch)
        self.unsent += 1
        return batch

    def _take_sequences(self, count: int) -> int:
        if not self.identity.idempotent:
            return -1
        first = self._next_sequence
        self._next_sequence = self._after(first, count)
        return first

    def _after(self, sequence: int, count: int) -> int:
        return -1 if sequence < 0 else (sequence + count) % SEQUENCES

    def _answered(self) -> None:
        self.in_flight -= 1
        if self.in_flight == 0:
            self._failed = False
            self.node = None

    def _encoded(self, batch: Batch) -> bytes | bytearray | memoryview:
        return encode_batches(batch.rows, [batch.rows.num_rows], [self._fields(batch)])[0]

    def _fields(self, batch: Batch) -> BatchFields:
        return BatchFields(
            codec=self.codec,
            producer_id=self.identity.producer_id,
            producer_epoch=self.identity.epoch,
            base_sequence=batch.sequence,
            transactional=self.identity.transactional,
        )


def _joined(parts: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(parts).combine_chunks().to_batches()[0]
