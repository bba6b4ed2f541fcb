"""The head of a consumer's subscription, from clients and from nobody in particular."""

import random

from kafka.coordinator.assignors.range import RangePartitionAssignor

from tailrace.broker.coordinator.subscription import subscribed_topics


def test_topics_of_a_kafka_python_subscription() -> None:
    metadata = RangePartitionAssignor().metadata(["weblogs", "größe"])
    encoded = metadata if isinstance(metadata, bytes) else metadata.encode()
    assert subscribed_topics(encoded) == {"weblogs", "größe"}


def test_what_is_not_a_subscription_is_none() -> None:
    good = b"\0\1" + b"\0\0\0\2" + b"\0\1a" + b"\0\2bc" + b"\xff\xff\xff\xff"
    assert subscribed_topics(good) == {"a", "bc"}
    for cut in range(len(good) - 4):
        assert subscribed_topics(good[:cut]) is None
    assert subscribed_topics(b"\0\1\x7f\xff\xff\xff\0\1a") is None
    assert subscribed_topics(b"\0\1\0\0\0\1\xff\xffa") is None
    assert subscribed_topics(b"\0\1\0\0\0\1\0\1\xff") is None


def test_random_bytes_raise_nothing() -> None:
    chance = random.Random(7)
    for _ in range(3000):
        subscribed_topics(chance.randbytes(chance.randrange(40)))
