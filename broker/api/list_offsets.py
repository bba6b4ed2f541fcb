"""ListOffsets (key 2), versions 1 to 9: where a partition begins, ends, or reaches a time.

KIP-79 (by time), KIP-98 (read_committed ends at the LSO), KIP-320 (leader epochs), KIP-734 (-3: the
largest timestamp). Not here: tiered storage; its questions (-4, -5; KIP-405, KIP-1005) are answered as
for a log that is all local.
"""

from typing import Any

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.epochs import epoch_error
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.log.log import PartitionLog
from tailrace.broker.wire.errors import ErrorCode, KafkaError
from tailrace.broker.wire.messages import Request, response
from tailrace.errors import Corrupt

_LATEST, _EARLIEST, _MAX_TIMESTAMP, _EARLIEST_LOCAL, _LATEST_TIERED = -1, -2, -3, -4, -5
_NOT_THERE = (-1, -1)


@handles(2, versions=(1, 9))
async def list_offsets(request: Request, _: Session, broker: Broker) -> Answer:
    body, topics = request.body, []
    committed = getattr(body, "isolation_level", 0) == 1
    seen: set[tuple[str, int]] = set()
    for topic in body.topics:
        partitions = []
        for part in topic.partitions:
            place = topic.name, part.partition_index
            if place in seen:
                twice = {"partition_index": place[1], "error_code": ErrorCode.invalid_request}
                partitions.append(twice)
                continue
            seen.add(place)
            partitions.append(await _answer(broker, topic.name, part, committed))
        topics.append({"name": topic.name, "partitions": partitions})
    return response(2, request.api_version, topics=topics)


async def _answer(broker: Broker, topic: str, part: Any, committed: bool) -> dict[str, Any]:
    answer: dict[str, Any] = {"partition_index": part.partition_index}
    try:
        log = broker.log(topic, part.partition_index)
        stale = epoch_error(log, getattr(part, "current_leader_epoch", -1))
        if stale:
            raise KafkaError(stale)
        timestamp, offset = await _find(broker, log, part.timestamp, committed)
    except (KafkaError, Corrupt, OSError) as error:
        code = error.code if isinstance(error, KafkaError) else ErrorCode.kafka_storage_error
        return answer | {"error_code": code, "timestamp": -1, "offset": -1}
    epoch = log.leader_epoch if part.timestamp == _LATEST else -1
    return answer | {"error_code": 0, "timestamp": timestamp, "offset": offset, "leader_epoch": epoch}


async def _find(broker: Broker, log: PartitionLog, timestamp: int, committed: bool) -> tuple[int, int]:
    end = log.lso if committed else log.hw
    if timestamp == _LATEST:
        return -1, end
    if timestamp in (_EARLIEST, _EARLIEST_LOCAL):
        return -1, log.log_start
    if timestamp == _LATEST_TIERED:
        return _NOT_THERE
    if timestamp == _MAX_TIMESTAMP:
        found = await broker.in_thread(log.max_timestamp)
    else:
        found = await broker.in_thread(lambda: log.offset_for_time(timestamp))
    return _NOT_THERE if found is None or found[1] >= end else found
