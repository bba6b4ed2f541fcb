"""Which versions of each API key the client speaks, and which of them a broker and it use together."""

from collections.abc import Mapping
from dataclasses import dataclass

from tailrace.broker.client.errors import Refused
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.messages import APIS

PRODUCE, FETCH, LIST_OFFSETS, METADATA = 0, 1, 2, 3
OFFSET_COMMIT, OFFSET_FETCH, FIND_COORDINATOR = 8, 9, 10
JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP = 11, 12, 13, 14
API_VERSIONS, CREATE_TOPICS, DELETE_TOPICS, INIT_PRODUCER_ID, OFFSET_FOR_LEADER_EPOCH = 18, 19, 20, 22, 23
ADD_PARTITIONS_TO_TXN, ADD_OFFSETS_TO_TXN, END_TXN, TXN_OFFSET_COMMIT, DESCRIBE_CONFIGS = 24, 25, 26, 28, 32


@dataclass(frozen=True, slots=True)
class Versions:
    """Lowest and highest, inclusive."""

    lowest: int
    highest: int


SPOKEN: Mapping[int, Versions] = {
    PRODUCE: Versions(3, 11),
    FETCH: Versions(4, 13),
    LIST_OFFSETS: Versions(1, 7),
    METADATA: Versions(4, 12),
    OFFSET_COMMIT: Versions(2, 8),
    OFFSET_FETCH: Versions(1, 7),
    FIND_COORDINATOR: Versions(1, 3),
    JOIN_GROUP: Versions(2, 9),
    HEARTBEAT: Versions(0, 4),
    LEAVE_GROUP: Versions(0, 5),
    SYNC_GROUP: Versions(0, 5),
    API_VERSIONS: Versions(0, 3),
    CREATE_TOPICS: Versions(2, 7),
    DELETE_TOPICS: Versions(1, 5),
    INIT_PRODUCER_ID: Versions(0, 4),
    OFFSET_FOR_LEADER_EPOCH: Versions(2, 4),
    ADD_PARTITIONS_TO_TXN: Versions(0, 3),
    ADD_OFFSETS_TO_TXN: Versions(0, 3),
    END_TXN: Versions(0, 3),
    TXN_OFFSET_COMMIT: Versions(3, 3),
    DESCRIBE_CONFIGS: Versions(1, 4),
}
"""Floors: Apache Kafka 2.5's or older (magic 2; TxnOffsetCommit 3 carries the generation, KIP-447). Tops: the
last version whose shape is the one written here (batched FindCoordinator, OffsetFetch and AddPartitionsToTxn
come after it; Produce 12 and EndTxn 5 are the transactions of KIP-890 part 2), and all of them are within
Apache Kafka 4's floors."""


def negotiate(theirs: Mapping[int, Versions], key: int) -> int:
    """The highest version both speak; Refused when there is none."""
    ours, other = SPOKEN[key], theirs.get(key)
    if other is None:
        raise Refused(ErrorCode.unsupported_version, f"the broker has no {APIS[key].name} (API key {key})")
    version = min(ours.highest, other.highest)
    if version < max(ours.lowest, other.lowest):
        raise Refused(
            ErrorCode.unsupported_version,
            f"{APIS[key].name}: the broker speaks versions {other.lowest}-{other.highest}, "
            f"this client {ours.lowest}-{ours.highest}",
        )
    return version
