"""Kafka's hash of group ids and transactional ids."""

import pytest

from tailrace.broker.coordinator.partition import coordinator_partition


@pytest.mark.parametrize(
    ("key", "java_hash"),
    [
        ("", 0),
        ("Aa", 2112),
        ("BB", 2112),
        ("hello", 99162322),
        ("\U0001f600", 31 * 0xD83D + 0xDE00),
        # Java's least int has no absolute value; Kafka takes 0.
        ("polygenelubricants", 0),
    ],
)
def test_partition_is_java_hash_modulo_partitions(key: str, java_hash: int) -> None:
    assert coordinator_partition(key, 1) == 0
    for partitions in (2, 50, 1009):
        assert coordinator_partition(key, partitions) == java_hash % partitions


def test_negative_hashes_lose_their_sign() -> None:
    value = 0
    for character in "tailrace":
        value = (31 * value + ord(character)) % 2**32
    assert value >= 2**31
    assert coordinator_partition("tailrace", 50) == (2**32 - value) % 50
