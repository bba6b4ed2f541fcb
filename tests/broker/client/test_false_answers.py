"""Answers whose bytes were changed at random: the client raises what it says it may, and nothing else."""

import random
import struct
import time

import pytest

from tailrace.broker.client.admin import (
    committed_offsets,
    create_topic,
    delete_topic,
    list_offsets,
    topic_configs,
)
from tailrace.broker.client.cluster import Cluster
from tailrace.broker.client.fetcher import Fetcher
from tailrace.broker.client.group import Group
from tailrace.broker.client.producer import Producer
from tailrace.broker.client.topics import TopicPartition
from tailrace.broker.wire import messages
from tailrace.broker.wire.encode import encode_batch
from tailrace.errors import TailraceError
from tests.support.rows import numbered
from tests.support.scripted_broker import Raw, ScriptedCluster

T0 = TopicPartition("t", 0)


def garbled(scripted, generator):
    """A reaction: the plausible answer with some bytes changed; its size stays true."""

    def react(request):
        frame = b"".join(
            messages.encode_response(
                request.api_key, request.api_version, request.correlation_id, scripted.plausible(request)
            )
        )
        body = bytearray(frame[8:])
        for _ in range(generator.choice((1, 1, 2, 5))):
            if body:
                at = generator.randrange(len(body))
                body[at] = generator.choice(
                    (0, 1, 0x7F, 0x80, 0xFF, body[at] ^ (1 << generator.randrange(8)))
                )
        return Raw(struct.pack(">i", len(body) + 4) + frame[4:8] + bytes(body))

    return react


def produce(cluster):
    producer = Producer(cluster)
    producer.send(T0, numbered(0, 5))
    producer.flush()


def transaction(cluster):
    producer = Producer(cluster, transactional_id="tx")
    producer.init_transactions()
    producer.begin()
    producer.send(T0, numbered(0, 5))
    producer.commit()


def fetch(cluster):
    fetcher = Fetcher(cluster, max_wait=0.01)
    fetcher.seek(T0, 0)
    for _ in range(3):
        fetcher.poll(0.01)
    fetcher.close()


def join(cluster):
    group = Group(cluster, "g", ["t"], session_timeout=1.0, rebalance_timeout=1.0)
    until = time.monotonic() + 0.2
    while time.monotonic() < until and group.generation is None:
        group.poll_membership(0.05)
    if group.generation is not None:
        group.generation.heartbeat()
    group.close()


VERBS = {
    "metadata": lambda cluster: cluster.topics(None),
    "create": lambda cluster: create_topic(cluster, "t"),
    "delete": lambda cluster: delete_topic(cluster, "t"),
    "configs": lambda cluster: topic_configs(cluster, "t"),
    "list offsets": lambda cluster: list_offsets(cluster, [T0]),
    "committed": lambda cluster: committed_offsets(cluster, "g", [T0]),
    "produce": produce,
    "transaction": transaction,
    "fetch": fetch,
    "join": join,
}


@pytest.mark.parametrize("verb", list(VERBS))
def test_a_garbled_answer_raises_what_is_promised_and_nothing_else(verb):
    scripted = ScriptedCluster({"t": 1})
    scripted.batches["t", 0] = bytes(encode_batch(numbered(0, 30)))
    generator = random.Random(verb)
    try:
        for seed in range(60):
            cluster = Cluster(scripted.bootstrap, timeout=0.3, patience=0.02)
            skipped = generator.randrange(6)
            scripted.from_now_on(garbled(scripted, generator), skipped)
            try:
                VERBS[verb](cluster)
            except TailraceError:
                pass
            except Exception as error:
                raise AssertionError(f"{verb}, seed {seed}: {error!r}") from error
            finally:
                cluster.close()
    finally:
        scripted.close()
