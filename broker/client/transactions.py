"""The transaction coordinator as a producer needs it: producer ids, what a transaction touches, and its end.

Each verb asks once. Retry: ask again; Rewind: this transaction cannot commit; Fenced: the transactional id
has another owner. Sources: KIP-98, KIP-360 (epochs), KIP-447 (generations in offset commits), KIP-588
(time-outs).
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.errors import Disconnected, error_for
from tailrace.broker.client.outbox import Identity
from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.client.versions import (
    ADD_OFFSETS_TO_TXN,
    ADD_PARTITIONS_TO_TXN,
    END_TXN,
    INIT_PRODUCER_ID,
    TXN_OFFSET_COMMIT,
)
from tailrace.broker.wire.errors import ErrorCode, error_name
from tailrace.errors import Fenced, Retry, Rewind, TailraceError
from tailrace.failpoint import failpoint

_TAKEN_OVER = frozenset({ErrorCode.producer_fenced, ErrorCode.invalid_producer_epoch})
_ELSEWHERE = frozenset({ErrorCode.not_coordinator, ErrorCode.coordinator_not_available})
_CANNOT_COMMIT = frozenset(
    {
        ErrorCode.out_of_order_sequence_number,
        ErrorCode.invalid_txn_state,
        ErrorCode.invalid_producer_id_mapping,
        ErrorCode.unknown_producer_id,
        ErrorCode.transaction_abortable,
        ErrorCode.illegal_generation,
        ErrorCode.unknown_member_id,
        ErrorCode.fenced_instance_id,
    }
)


class GroupPlace(Protocol):
    """A member's place in a consumer group, as offset commits in a transaction name it (group.Generation is
    one)."""

    @property
    def group(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def member_id(self) -> str: ...
    @property
    def instance_id(self) -> str | None: ...


def transaction_error(code: int, place: str) -> TailraceError:
    """The instruction that an error code is inside a transaction."""
    if code in _TAKEN_OVER:
        return Fenced(
            f"{place}: {error_name(code)}: a producer with the same transactional id has started elsewhere, "
            "or the transaction ran past its time-out"
        )
    if code in _CANNOT_COMMIT:
        return Rewind(f"{place}: {error_name(code)}")
    return error_for(code, place)


def anonymous_identity(cluster: Cluster) -> Identity:
    """A producer id for idempotence without transactions."""
    answer = cluster.call(None, INIT_PRODUCER_ID, transactional_id=None, transaction_timeout=0)
    if answer.error_code:
        raise error_for(answer.error_code, "asking for a producer id")
    return Identity(answer.producer_id, answer.producer_epoch)


class Transactions:
    """One transactional id's dealings with its coordinator. One thread uses it."""

    def __init__(self, cluster: Cluster, transactional_id: str, timeout: float) -> None:
        self.transactional_id = transactional_id
        self._cluster = cluster
        self._timeout_ms = int(timeout * 1000)

    def initialise(self) -> Identity:
        """A new epoch: older producers are fenced, and what they left open is settled. Retry while that
        takes."""
        answer = self._ask(
            INIT_PRODUCER_ID,
            lambda body: [body.error_code],
            transactional_id=self.transactional_id,
            transaction_timeout=self._timeout_ms,
        )
        return Identity(answer.producer_id, answer.producer_epoch, transactional=True)

    def add_partitions(self, identity: Identity, partitions: Collection[TopicPartition]) -> None:
        """Before the first rows of each; the coordinator writes the markers there."""
        topics: dict[str, list[int]] = defaultdict(list)
        for partition in partitions:
            topics[partition.topic].append(partition.partition)
        self._ask(
            ADD_PARTITIONS_TO_TXN,
            lambda body: [
                entry.partition_error_code
                for topic in body.results_by_topic_v3_and_below
                for entry in topic.results_by_partition
            ],
            v3_and_below_transactional_id=self.transactional_id,
            v3_and_below_producer_id=identity.producer_id,
            v3_and_below_producer_epoch=identity.epoch,
            v3_and_below_topics=[{"name": name, "partitions": numbers} for name, numbers in topics.items()],
        )

    def add_offsets(
        self, identity: Identity, place: GroupPlace, offsets: Mapping[TopicPartition, tuple[int, str]]
    ) -> None:
        """The group's offsets become part of the transaction, if `place` is still the group's."""
        self._ask(
            ADD_OFFSETS_TO_TXN,
            lambda body: [body.error_code],
            transactional_id=self.transactional_id,
            producer_id=identity.producer_id,
            producer_epoch=identity.epoch,
            group_id=place.group,
        )
        topics: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for partition, (offset, metadata) in offsets.items():
            topics[partition.topic].append(
                {
                    "partition_index": partition.partition,
                    "committed_offset": offset,
                    "committed_metadata": metadata,
                }
            )
        try:
            answer = self._cluster.call(
                self._cluster.coordinator("group", place.group),
                TXN_OFFSET_COMMIT,
                transactional_id=self.transactional_id,
                producer_id=identity.producer_id,
                producer_epoch=identity.epoch,
                group_id=place.group,
                generation_id=place.generation,
                member_id=place.member_id,
                group_instance_id=place.instance_id,
                topics=[{"name": name, "partitions": entries} for name, entries in topics.items()],
            )
            self._check(
                [entry.error_code for topic in answer.topics for entry in topic.partitions],
                f"offsets of group {place.group!r}",
            )
        except Retry:
            self._cluster.forget_coordinator("group", place.group)
            raise

    def commit(self, identity: Identity) -> None:
        """EndTxn. Returns when it is decided; Retry when the outcome is not known: commit() again, as the same."""
        self._ask(
            END_TXN,
            lambda body: [body.error_code],
            transactional_id=self.transactional_id,
            producer_id=identity.producer_id,
            producer_epoch=identity.epoch,
            committed=True,
            sent=lambda: failpoint("transaction.end_sent"),
        )

    def _ask(self, api: int, codes: Callable[[Any], Collection[int]], /, **fields: Any) -> Any:
        node = self._cluster.coordinator("transaction", self.transactional_id)
        try:
            answer = self._cluster.call(node, api, **fields)
        except Disconnected:
            self._cluster.forget_coordinator("transaction", self.transactional_id)
            raise
        found = codes(answer)
        if not _ELSEWHERE.isdisjoint(found):
            self._cluster.forget_coordinator("transaction", self.transactional_id)
        self._check(found, f"transactional id {self.transactional_id!r}")
        return answer

    def _check(self, codes: Collection[int], place: str) -> None:
        """The first code that says something: others are OPERATION_NOT_ATTEMPTED because of it."""
        wrong = [code for code in codes if code]
        for code in sorted(wrong, key=lambda code: code == ErrorCode.operation_not_attempted):
            raise transaction_error(code, place)
