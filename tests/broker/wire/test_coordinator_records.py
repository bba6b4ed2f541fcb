"""Coordinator records: byte for byte as Kafka's schemas spell them, and every version it ever wrote is
read.
"""

import random

import pytest

from tailrace.broker.wire.coordinator_records import (
    GroupMember,
    GroupMetadataKey,
    GroupMetadataValue,
    OffsetCommitKey,
    OffsetCommitValue,
    TransactionLogKey,
    TransactionLogValue,
    TransactionPartitions,
    decode_group_key,
    decode_transaction_key,
    decode_value,
    encode_key,
    encode_value,
)
from tailrace.errors import Corrupt

MEMBER = GroupMember(
    member_id="m",
    group_instance_id="i",
    client_id="c",
    client_host="/h",
    rebalance_timeout=300,
    session_timeout=45,
    subscription=b"su",
    assignment=b"as",
)
GROUP = GroupMetadataValue(
    protocol_type="consumer",
    generation=7,
    protocol="range",
    leader="m",
    current_state_timestamp=9,
    members=(MEMBER,),
)
TRANSACTION = TransactionLogValue(
    producer_id=4,
    producer_epoch=2,
    timeout_ms=60_000,
    status=1,
    partitions=(TransactionPartitions(topic="t", partition_ids=(0, 3)),),
    last_update_timestamp=10,
    start_timestamp=8,
)


def i64(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)


def i32(value: int) -> bytes:
    return value.to_bytes(4, "big", signed=True)


def test_keys_are_spelled_as_kafka_spells_them() -> None:
    offset = OffsetCommitKey(group="g", topic="tt", partition=5)
    assert encode_key(offset) == b"\0\1\0\1g\0\2tt" + i32(5)
    assert encode_key(GroupMetadataKey(group="g")) == b"\0\2\0\1g"
    assert encode_key(TransactionLogKey(transactional_id="tx")) == b"\0\0\0\2tx"
    for key in (offset, GroupMetadataKey(group="g")):
        assert decode_group_key(encode_key(key)) == key
    assert decode_transaction_key(b"\0\0\0\2tx") == TransactionLogKey(transactional_id="tx")
    assert decode_group_key(b"\0\0" + encode_key(offset)[2:]) == offset


def test_values_are_spelled_as_kafka_spells_them() -> None:
    commit = OffsetCommitValue(offset=11, leader_epoch=3, metadata="md", commit_timestamp=12)
    assert encode_value(commit) == b"\0\3" + i64(11) + i32(3) + b"\0\2md" + i64(12)
    member = b"\0\1m\0\1i\0\1c\0\2/h" + i32(300) + i32(45) + i32(2) + b"su" + i32(2) + b"as"
    head = b"\0\3\0\x08consumer" + i32(7) + b"\0\5range\0\1m" + i64(9)
    assert encode_value(GROUP) == head + i32(1) + member
    partitions = i32(1) + b"\0\1t" + i32(2) + i32(0) + i32(3)
    start = b"\0\0" + i64(4) + b"\0\2" + i32(60_000) + b"\1"
    assert encode_value(TRANSACTION) == start + partitions + i64(10) + i64(8)
    for value in (commit, GROUP, TRANSACTION):
        assert decode_value(type(value), encode_value(value)) == value


def test_nulls_are_kept() -> None:
    empty = GroupMetadataValue(protocol_type="consumer", generation=0)
    assert decode_value(GroupMetadataValue, encode_value(empty)) == empty
    done = TransactionLogValue(producer_id=1, producer_epoch=0, timeout_ms=1, status=4)
    assert decode_value(TransactionLogValue, encode_value(done)) == done


@pytest.mark.parametrize(
    ("data", "epoch"),
    [
        (b"\0\0" + i64(11) + b"\0\2md" + i64(12), -1),
        (b"\0\1" + i64(11) + b"\0\2md" + i64(12) + i64(99), -1),
        (b"\0\2" + i64(11) + b"\0\2md" + i64(12), -1),
        (b"\0\4" + i64(11) + i32(3) + b"\3md" + i64(12) + b"\0", 3),
        (b"\0\4" + i64(11) + i32(3) + b"\3md" + i64(12) + b"\1\0\x10" + bytes(16), 3),
    ],
    ids=["0", "1", "2", "4", "4 with a topic id"],
)
def test_offsets_of_all_other_versions_are_read(data: bytes, epoch: int) -> None:
    read = decode_value(OffsetCommitValue, data)
    assert read == OffsetCommitValue(offset=11, leader_epoch=epoch, metadata="md", commit_timestamp=12)


def test_groups_of_all_other_versions_are_read() -> None:
    strings = b"\0\x08consumer" + i32(7) + b"\0\5range\0\1m"
    tail = i32(45) + i32(2) + b"su" + i32(2) + b"as"
    old = b"\0\1m\0\1c\0\2/h"
    zero = decode_value(GroupMetadataValue, b"\0\0" + strings + i32(1) + old + tail)
    one = decode_value(GroupMetadataValue, b"\0\1" + strings + i32(1) + old + i32(300) + tail)
    two = decode_value(GroupMetadataValue, b"\0\2" + strings + i64(9) + i32(1) + old + i32(300) + tail)
    assert zero.members[0].session_timeout == 45
    assert zero.members[0].rebalance_timeout == -1
    assert one.members[0].rebalance_timeout == 300
    assert (two.current_state_timestamp, two.members[0].group_instance_id) == (9, None)
    compact = b"\2m\2i\2c\3/h" + i32(300) + i32(45) + b"\3su\3as\0"
    head = b"\0\4\x09consumer" + i32(7) + b"\6range\2m" + i64(9)
    assert decode_value(GroupMetadataValue, head + b"\2" + compact + b"\0") == GROUP


def test_transactions_of_kafka_4_are_read() -> None:
    start = b"\0\1" + i64(4) + b"\0\2" + i32(60_000) + b"\1"
    partitions = b"\2\2t\3" + i32(0) + i32(3) + b"\0"
    tags = b"\2\0\x08" + i64(1) + b"\2\2" + b"\0\2"
    assert decode_value(TransactionLogValue, start + partitions + i64(10) + i64(8) + tags) == TRANSACTION


def test_kinds_of_keys_that_are_not_known_are_passed_over_and_values_are_not() -> None:
    assert decode_group_key(b"\0\3\0\1g") is None
    assert decode_transaction_key(b"\0\1") is None
    with pytest.raises(Corrupt, match="version 9"):
        decode_value(OffsetCommitValue, b"\0\x09" + bytes(30))


def test_mutated_records_are_read_or_corrupt() -> None:
    rng = random.Random(99)
    values = [encode_value(v) for v in (GROUP, TRANSACTION)] + [
        encode_key(OffsetCommitKey(group="g", topic="t", partition=1))
    ]
    for _ in range(3000):
        data = bytearray(rng.choice(values))
        for _ in range(rng.choice((1, 2, 4))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        data = data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data
        for read in (
            lambda d: decode_value(GroupMetadataValue, d),
            lambda d: decode_value(TransactionLogValue, d),
            decode_group_key,
            decode_transaction_key,
        ):
            try:
                read(data)
            except Corrupt:
                pass
