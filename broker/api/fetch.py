"""Fetch (key 1), versions 4 to 17: answers are ranges of segment files; nothing is read here.

KIP-74 (the first batch comes whatever its size), KIP-98 (read_committed), KIP-320 (leader epochs are
checked), KIP-516 (topic ids from version 13). Not here: sessions (KIP-227: always session 0, always
full), follower fetching (KIP-392), replication (KIP-595).

A read_committed answer ends at the last stable offset, which never passes what is fsynced.
"""

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.epochs import epoch_error
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.log.errors import OffsetOutOfRange
from tailrace.broker.log.files import FileRange
from tailrace.broker.log.log import PartitionLog
from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    PartitionFetched,
    TopicFetched,
)
from tailrace.broker.wire.messages import Request
from tailrace.broker.wire.pieces import piece_length

_TOPIC_IDS = 13
_READ_COMMITTED = 1
_NO_SESSION = -1
_MAX_WAIT = 60.0
_MAX_BYTES = 55 << 20
_PAUSE = 0.005
"""Seconds between two looks of a fetch that waits for more than one byte."""


@dataclass(frozen=True, slots=True)
class Looked:
    """One look at everything that was asked for. `settled`: waiting would not better it, because there is
    an error to tell, or a partition gives as much as it may already.
    """

    response: FetchResponse
    size: int
    settled: bool


@handles(1, versions=(4, 17))
def fetch(request: Request, _: Session, broker: Broker) -> Answer | Coroutine[Any, Any, Answer]:
    body: FetchRequest = request.body
    if body.session_id != 0 and body.session_epoch not in (0, _NO_SESSION):
        return FetchResponse(error=ErrorCode.fetch_session_id_not_found)
    logs = _logs(broker, body, request.api_version)
    looked = _look(body, logs)
    if _enough(looked, body) or body.max_wait_ms <= 0:
        return looked.response
    return _wait(broker, request, logs)


def _enough(looked: Looked, body: FetchRequest) -> bool:
    return looked.settled or looked.size >= body.min_bytes or not body.topics


async def _wait(broker: Broker, request: Request, logs: "Logs") -> FetchResponse:
    body: FetchRequest = request.body
    loop = asyncio.get_running_loop()
    deadline = loop.time() + min(body.max_wait_ms / 1000, _MAX_WAIT)
    while True:
        there = [log for log, _ in logs.values() if log is not None]
        woken = await broker.waiting.wait(there, deadline - loop.time())
        if woken and body.min_bytes > 1:
            await asyncio.sleep(min(_PAUSE, max(deadline - loop.time(), 0)))
        logs = _logs(broker, body, request.api_version)
        looked = _look(body, logs)
        if not woken or _enough(looked, body):
            return looked.response


Logs = dict[tuple[int, int], tuple[PartitionLog | None, ErrorCode]]
"""By (topic's, partition's) place in the request: the log, or why there is none."""


def _logs(broker: Broker, body: FetchRequest, version: int) -> Logs:
    found: Logs = {}
    seen: set[tuple[object, int]] = set()
    for at, wanted in enumerate(body.topics):
        if version >= _TOPIC_IDS:
            topic = None if wanted.topic_id is None else broker.store.topic_by_id(wanted.topic_id)
            missing = ErrorCode.unknown_topic_id if topic is None else ErrorCode.unknown_topic_or_partition
        else:
            topic, missing = broker.store.topic(wanted.name), ErrorCode.unknown_topic_or_partition
        for nth, part in enumerate(wanted.partitions):
            if topic is None or not 0 <= part.partition < len(topic.partitions):
                found[at, nth] = None, missing
            elif (topic.id, part.partition) in seen:
                found[at, nth] = None, ErrorCode.invalid_request
            else:
                seen.add((topic.id, part.partition))
                found[at, nth] = topic.partitions[part.partition], ErrorCode.none
    return found


def _look(body: FetchRequest, logs: Logs) -> Looked:
    most = min(body.max_bytes, _MAX_BYTES)
    size, settled, topics = 0, False, []
    for at, wanted in enumerate(body.topics):
        partitions = []
        for nth, part in enumerate(wanted.partitions):
            log, error = logs[at, nth]
            if log is None:
                fetched = PartitionFetched(part.partition, error)
            else:
                fetched = _read(log, part, body, most - size, first=size == 0)
            if fetched.error:
                settled = True
            elif fetched.records is not None:
                size += piece_length(fetched.records)
                settled |= isinstance(fetched.records, FileRange) and fetched.records.more
            partitions.append(fetched)
        topics.append(TopicFetched(wanted.name, wanted.topic_id, partitions))
    return Looked(FetchResponse(topics), size, settled)


def _read(
    log: PartitionLog, part: FetchPartition, body: FetchRequest, left: int, *, first: bool
) -> PartitionFetched:
    """Of one partition, at most `left` bytes; its first batch may be larger only if it is the answer's
    `first`.
    """
    error = epoch_error(log, part.leader_epoch)
    if error:
        return PartitionFetched(part.partition, error)
    committed = body.isolation_level == _READ_COMMITTED
    hw, lso = log.hw, log.lso
    fetched = PartitionFetched(part.partition, 0, hw, lso, log.log_start, [] if committed else None)
    limit = min(part.max_bytes, left)
    if limit <= 0 and not first:
        return fetched
    upto = lso if committed else hw
    try:
        found = log.read(part.offset, limit, upto)
    except OffsetOutOfRange:
        if log.closed:  # deleted meanwhile
            return PartitionFetched(part.partition, ErrorCode.unknown_topic_or_partition)
        return PartitionFetched(part.partition, ErrorCode.offset_out_of_range, hw, lso, log.log_start)
    except OSError:
        return PartitionFetched(part.partition, ErrorCode.kafka_storage_error, hw, lso, log.log_start)
    if found is None or (found.length > left and not first):
        return fetched
    fetched.records = found
    if committed:
        fetched.aborted = list(log.aborted(part.offset, min(upto, _offset_behind(found, upto))))
    return fetched


def _offset_behind(found: FileRange, upto: int) -> int:
    """The base offset of the batch behind the range, in the same file; `upto` where there is none."""
    following = os.pread(found.fd, 8, found.position + found.length)
    return int.from_bytes(following, "big") if len(following) == 8 else upto
