"""The columnar producer: rows go out as Kafka record batches, idempotent or in transactions, five requests in
flight.

One thread uses it, and it has none of its own: sending, and taking in answers, happens inside its verbs.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Literal

import pyarrow as pa

from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.dispatch import Dispatch
from tailrace.broker.client.errors import OutcomeUnknown, error_for
from tailrace.broker.client.outbox import Identity
from tailrace.broker.client.sizes import row_sizes
from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.client.transactions import GroupPlace, Transactions, transaction_error
from tailrace.broker.wire.batch import Codec
from tailrace.errors import Retry, Rewind, TailraceError

_ACKS: Mapping[str | int, int] = {"all": -1, 1: 1, 0: 0}


class Producer:
    """Sends rows of tailrace.event.SCHEMA (key, body, headers, timestamp; `position` is not sent) to
    partitions.

    acks              "all" is idempotent: each row is in the log once, in order, whatever is lost on the way.
                      1 and 0 are not: a lost answer doubles (1), a lost request loses (0). Apache Kafka
                      remembers a producer only as long as its rows' timestamps are recent
                      (producer.id.expiration.ms): old rows outside of transactions may double when it restarts
    codec             none, gzip, snappy, lz4 or zstd
    transactional_id  needs acks "all"; then init_transactions() first, and every send between begin() and
                      commit()
    batch_bytes       rows are gathered to about this size a record batch; the topic's max.message.bytes
                      bounds it

    Every verb may raise Retry (call it again with the same arguments), Fenced, Refused, and RowTooLarge; in a
    transaction also Rewind. After any of these but Retry (and RowTooLarge from send) the producer is only
    good for init_transactions(), where it is transactional, or close().
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        acks: Literal["all", 1, 0] = "all",
        codec: Codec = "none",
        transactional_id: str | None = None,
        transaction_timeout: float = 60.0,
        batch_bytes: int = 1_000_000,
        max_in_flight: int = 5,
    ) -> None:
        if transactional_id is not None and acks != "all":
            raise ValueError("a transactional producer needs acks all")
        if not 1 <= max_in_flight <= 5:
            raise ValueError("max_in_flight: brokers remember the last five batches of a producer, not more")
        self._cluster = cluster
        self._transactions: Transactions | None = None
        if transactional_id is not None:
            self._transactions = Transactions(cluster, transactional_id, transaction_timeout)
        self._dispatch = Dispatch(
            cluster,
            acks=_ACKS[acks],
            codec=codec,
            batch_bytes=batch_bytes,
            depth=max_in_flight,
            transactional_id=transactional_id,
            error_of=transaction_error if transactional_id is not None else error_for,
            announce=self._add_to_transaction,
        )
        self._identity = Identity()
        self._failure: TailraceError | None = None
        self._open = False
        self._ending = False
        self._added: set[TopicPartition] = set()
        self._expected: frozenset[TopicPartition] = frozenset()
        self._offsets_added = False
        self._late_end_possible = False

    @property
    def in_transaction(self) -> bool:
        """From begin() until commit() or abort() returned."""
        return self._open

    def send(self, partition: TopicPartition, rows: pa.RecordBatch) -> None:
        """Takes all rows or raises and takes none. Full batches leave at once, the rest with flush() or
        commit().

        Waits while five requests are unanswered and some batches wait. A topic that is not there: UnknownTopic.
        """
        self._refuse_after_failure()
        if self._transactions is not None:
            self._expect_open("send")
        if rows.num_rows == 0:
            return
        outbox = self._cluster.patiently(lambda: self._dispatch.outbox(partition))
        sizes = row_sizes(rows)
        outbox.check(rows, sizes)
        self._attempt(self._dispatch.make_room)
        outbox.take(rows, sizes)
        try:
            self._attempt(self._dispatch.transmit, patient=False)
        except Retry:
            # The rows are taken: the next verb goes on from here.
            pass

    def flush(self) -> None:
        """Returns when every row sent is answered for (as `acks` says)."""
        self._refuse_after_failure()
        self._dispatch.cut()
        self._attempt(self._dispatch.drain)

    def init_transactions(self) -> None:
        """InitProducerId: fences every older producer of this transactional id and settles what it left open.

        Also the way on after Rewind and Fenced: forgets all that was not committed.
        """
        if self._transactions is None:
            raise RuntimeError("not a transactional producer")
        self._forget()
        # Until it succeeds nothing else may be done: what a predecessor left may be undecided.
        self._failure = Rewind(f"transactional id {self._transactions.transactional_id!r} is not initialised")
        self._identity = self._cluster.patiently(self._transactions.initialise)
        self._dispatch.reset(self._identity)
        self._failure = None

    def begin(self, expected: Collection[TopicPartition] = ()) -> None:
        """Opens a transaction (locally; the broker hears of it with the first rows).

        Partitions that will surely be written to are added with the first: it saves a round trip each.
        """
        self._refuse_after_failure()
        if not self._identity.transactional or self._open:
            raise RuntimeError("begin() comes after init_transactions(), and not within a transaction")
        if self._late_end_possible:
            # An EndTxn whose answer was lost may still be on its way and would end this transaction early:
            # a new epoch fences it.
            assert self._transactions is not None
            self._identity = self._cluster.patiently(self._transactions.initialise)
            self._dispatch.reset(self._identity)
            self._late_end_possible = False
        self._expected = frozenset(expected)
        self._open = True

    def send_offsets(self, place: GroupPlace, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Adds the group's committed (offset, metadata) to the transaction; Rewind when `place` is no longer
        the group's."""
        self._refuse_after_failure()
        transactions = self._expect_open("send_offsets")
        self._offsets_added = True
        self._attempt(lambda: transactions.add_offsets(self._identity, place, offsets))

    def commit(self) -> None:
        """flush(), then EndTxn. OutcomeUnknown: call commit() again until it returns (committed) or raises
        anything else (not committed, or Fenced: read the positions to know). An empty transaction costs
        nothing."""
        self._refuse_after_failure()
        if not self._ending:
            self._expect_open("commit")
            self.flush()
            if not self._added and not self._offsets_added:
                self._open = False
                return
            self._ending = True
        try:
            self._attempt(self._end)
        except Retry as error:
            raise OutcomeUnknown(
                f"the end of a transaction is not known yet: {error}", error.after
            ) from error
        self._open = self._ending = self._offsets_added = False
        self._added.clear()

    def abort(self) -> None:
        """Drops what was sent since begin(), by a new epoch: so nothing that is still on its way can come
        after the end."""
        if self._ending:
            raise RuntimeError("abort() after commit() has begun: the outcome is not ours to choose any more")
        touched = self._failure is not None or self._added or self._offsets_added or not self._dispatch.empty
        if touched:
            self.init_transactions()
        self._open = False

    def close(self) -> None:
        """Closes the connections at once; what is unanswered or uncommitted is left as it is."""
        self._forget()
        self._failure = TailraceError("the producer is closed")

    def _end(self) -> None:
        assert self._transactions is not None
        try:
            self._transactions.commit(self._identity)
        except Retry:
            self._late_end_possible = True
            raise

    def _add_to_transaction(self, partitions: Collection[TopicPartition]) -> None:
        if self._transactions is None:
            return
        if not self._added.issuperset(partitions):
            new = sorted(self._expected.union(partitions) - self._added)
            transactions = self._transactions
            # Patience of its own: the markers of the last transaction may still be being written.
            self._cluster.patiently(lambda: transactions.add_partitions(self._identity, new))
            self._added.update(new)

    def _attempt(self, verb: Callable[[], None], *, patient: bool = True) -> None:
        """Calls `verb`; what is not Retry stays until init_transactions() or close()."""
        try:
            if patient:
                self._cluster.patiently(verb)
            else:
                verb()
        except Retry:
            raise
        except TailraceError as error:
            self._failure = error
            raise

    def _expect_open(self, verb: str) -> Transactions:
        if self._transactions is None or not self._open or self._ending:
            raise RuntimeError(f"{verb}() of a transactional producer comes between begin() and commit()")
        return self._transactions

    def _refuse_after_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _forget(self) -> None:
        self._dispatch.reset(Identity())
        self._added.clear()
        self._open = self._ending = self._offsets_added = self._late_end_possible = False
