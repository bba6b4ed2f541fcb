"""OffsetForLeaderEpoch (key 23), versions 2 to 4: where an epoch ended, so that a client sees a truncated
log.

KIP-279 (the largest epoch not above the one asked for), KIP-320 (asked by consumers).
"""

from typing import Any

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.epochs import epoch_error
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.wire.errors import KafkaError
from tailrace.broker.wire.messages import Request, response


@handles(23, versions=(2, 4))
def offset_for_leader_epoch(request: Request, _: Session, broker: Broker) -> Answer:
    topics = [
        {
            "topic": topic.topic,
            "partitions": [_answer(broker, topic.topic, part) for part in topic.partitions],
        }
        for topic in request.body.topics
    ]
    return response(23, request.api_version, topics=topics)


def _answer(broker: Broker, topic: str, part: Any) -> dict[str, Any]:
    answer = {"partition": part.partition, "error_code": 0, "leader_epoch": -1, "end_offset": -1}
    try:
        log = broker.log(topic, part.partition)
    except KafkaError as error:
        return answer | {"error_code": error.code}
    code = epoch_error(log, part.current_leader_epoch)
    if code:
        return answer | {"error_code": code}
    epoch, end = log.epoch_end(part.leader_epoch)
    return answer | {"leader_epoch": epoch, "end_offset": end}
