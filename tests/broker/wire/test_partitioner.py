"""Keys go where every other client puts them."""

import random

import pyarrow as pa
import pytest
from kafka.partitioner.default import murmur2 as theirs

from tailrace.broker.wire.partitioner import murmur2, partition_of, partitions_of


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_javas(key: bytes, expected: int):
    """The values of Apache Kafka's own UtilsTest."""
    assert murmur2(key) == expected & 0xFFFFFFFF


def test_murmur2_is_kafka_pythons():
    rng = random.Random(5)
    for _ in range(500):
        key = rng.randbytes(rng.randrange(40))
        assert murmur2(key) == theirs(key) & 0xFFFFFFFF
        assert partition_of(key, 7) == (theirs(key) & 0x7FFFFFFF) % 7


def test_a_whole_column_goes_where_each_of_its_keys_goes():
    rng = random.Random(6)
    keys = [
        rng.choice([None, rng.randbytes(rng.randrange(40)), b"x" * rng.randrange(600)]) for _ in range(3000)
    ]
    column = pa.array(keys, pa.binary())
    expected = [5 if key is None else partition_of(key, 7) for key in keys]
    assert partitions_of(column, 7, 5).tolist() == expected
    assert partitions_of(column.slice(100, 50), 7, 5).tolist() == expected[100:150]
    assert partitions_of(pa.nulls(3, pa.binary()), 7, 2).tolist() == [2, 2, 2]
    assert partitions_of(pa.array([], pa.binary()), 7, 2).tolist() == []
