"""Produce and Fetch answers of random values, for the wire tests."""

import random
import uuid

from tailrace.broker.wire.batch import AbortedTxn
from tailrace.broker.wire.fetch import FetchResponse, PartitionFetched, TopicFetched
from tailrace.broker.wire.produce import PartitionProduced, ProduceResponse


def produce_response(rng: random.Random) -> ProduceResponse:
    partitions = [
        PartitionProduced(0, 0, rng.getrandbits(62), rng.getrandbits(40), 5),
        PartitionProduced(1, 45, error_message="out of order", record_errors=[(3, "bad"), (4, None)]),
    ]
    return ProduceResponse([("topic", partitions), ("ä", [])], rng.getrandbits(20))


def fetch_response(rng: random.Random) -> FetchResponse:
    partitions = [
        PartitionFetched(0, 0, 90, 80, 5, [AbortedTxn(9, 10), AbortedTxn(11, 12)], rng.randbytes(200)),
        PartitionFetched(1, 1, 90, 80, 5, None, b""),
        PartitionFetched(2, 0, 90, 80, 5, [], None, 3),
    ]
    topics = [
        TopicFetched("topic", uuid.UUID(int=rng.getrandbits(128)), partitions),
        TopicFetched("b", None, []),
    ]
    return FetchResponse(topics, 0, 0, 3)
