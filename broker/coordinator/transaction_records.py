"""Transactions as records of `__transaction_state`, and back."""

from collections import defaultdict

from tailrace.broker.coordinator.group_records import Record
from tailrace.broker.coordinator.transaction import Transaction, TxnState
from tailrace.broker.wire.coordinator_records import (
    TransactionLogKey,
    TransactionLogValue,
    TransactionPartitions,
    encode_key,
    encode_value,
)


def transaction_record(txn: Transaction) -> Record:
    """As Kafka writes it: no partitions (null) while EMPTY."""
    ids: defaultdict[str, list[int]] = defaultdict(list)
    for topic, partition in sorted(txn.partitions):
        ids[topic].append(partition)
    partitions = tuple(TransactionPartitions(topic=t, partition_ids=tuple(p)) for t, p in ids.items())
    value = TransactionLogValue(
        producer_id=txn.producer_id,
        producer_epoch=txn.epoch,
        timeout_ms=txn.timeout,
        status=int(txn.state),
        partitions=None if txn.state is TxnState.EMPTY else partitions,
        last_update_timestamp=txn.updated,
        start_timestamp=txn.started,
    )
    return encode_key(TransactionLogKey(transactional_id=txn.transactional_id)), encode_value(value)


def transaction_tombstone(transactional_id: str) -> Record:
    return encode_key(TransactionLogKey(transactional_id=transactional_id)), None


def restore_transaction(transactional_id: str, value: TransactionLogValue) -> Transaction:
    """ValueError when the status is none of Kafka's."""
    return Transaction(
        transactional_id,
        value.producer_id,
        value.producer_epoch,
        value.timeout_ms,
        TxnState(value.status),
        frozenset((p.topic, i) for p in value.partitions or () for i in p.partition_ids),
        value.start_timestamp,
        value.last_update_timestamp,
    )
