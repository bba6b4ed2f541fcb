"""DeleteTopics (key 20), versions 1 to 6. A topic is gone for good when it is answered.

KIP-516 (by topic id, version 6), KIP-599 (error text). Internal topics are refused.
"""

from typing import Any

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.api.topic_rules import is_internal
from tailrace.broker.log.store import Topic
from tailrace.broker.wire.errors import ErrorCode, KafkaError
from tailrace.broker.wire.messages import Request, response

_BY_ID = 6


@handles(20, versions=(1, 6))
async def delete_topics(request: Request, _: Session, broker: Broker) -> Answer:
    if request.api_version >= _BY_ID:
        wanted = [(topic.name, topic.topic_id) for topic in request.body.topics]
    else:
        wanted = [(name, None) for name in request.body.topic_names]
    answers = []
    for name, topic_id in wanted:
        answer: dict[str, Any] = {"name": name, "topic_id": topic_id}
        try:
            topic = await _delete(broker, name, topic_id)
            answer |= {"name": topic.name, "topic_id": topic.id, "error_code": 0}
        except KafkaError as error:
            answer |= {"error_code": error.code, "error_message": str(error)}
        answers.append(answer)
    return response(20, request.api_version, responses=answers)


async def _delete(broker: Broker, name: str | None, topic_id: Any) -> Topic:
    if (name is None) == (topic_id is None):
        raise KafkaError(ErrorCode.invalid_request, "either the name or the id of a topic")
    topic = broker.store.topic(name) if name is not None else broker.store.topic_by_id(topic_id)
    if topic is None:
        code = ErrorCode.unknown_topic_id if name is None else ErrorCode.unknown_topic_or_partition
        raise KafkaError(code, f"there is no topic {name or topic_id}")
    if is_internal(topic.name):
        raise KafkaError(ErrorCode.invalid_topic_exception, f"{topic.name} is the broker's own")
    found = topic
    try:
        await broker.in_thread(lambda: broker.store.delete(found.name))
    except KeyError:
        raise KafkaError(ErrorCode.unknown_topic_or_partition, f"there is no topic {found.name}") from None
    except OSError as error:
        raise KafkaError(ErrorCode.kafka_storage_error, str(error)) from error
    broker.topic_deleted(topic)
    return topic
