"""CreateTopics (key 19), versions 2 to 7. A topic is durable before it is answered.

KIP-195 (null replicas), KIP-464 (-1: the broker's defaults), KIP-525 (settings in the answer), KIP-516
(topic id in the answer). Not here: replication: a factor above 1 is refused, as Kafka does with one
broker.
"""

from collections import Counter
from typing import Any

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.api.topic_rules import (
    MAX_PARTITIONS,
    TOPIC_CONFIGS,
    checked_config,
    effective_config,
    is_internal,
)
from tailrace.broker.log.errors import TopicExists
from tailrace.broker.log.names import valid_topic
from tailrace.broker.wire.errors import ErrorCode, KafkaError
from tailrace.broker.wire.messages import Request, response

_DYNAMIC_TOPIC_CONFIG, _DEFAULT_CONFIG = 1, 5


@handles(19, versions=(2, 7))
async def create_topics(request: Request, _: Session, broker: Broker) -> Answer:
    body = request.body
    times = Counter(topic.name for topic in body.topics)
    answers = []
    for topic in body.topics:
        answer: dict[str, Any] = {"name": topic.name}
        try:
            if times[topic.name] > 1:
                raise KafkaError(ErrorCode.invalid_request, f"topic {topic.name} is in the request twice")
            answer |= await _create(broker, topic, body.validate_only)
        except KafkaError as error:
            answer |= {"error_code": error.code, "error_message": str(error), "configs": None}
        answers.append(answer)
    return response(19, request.api_version, topics=answers)


async def _create(broker: Broker, topic: Any, validate_only: bool) -> dict[str, Any]:
    if not valid_topic(topic.name) or is_internal(topic.name):
        raise KafkaError(
            ErrorCode.invalid_topic_exception, f"{topic.name!r} cannot be the name of a new topic"
        )
    if broker.store.topic(topic.name) is not None:
        raise KafkaError(ErrorCode.topic_already_exists, f"topic {topic.name} is there already")
    partitions = _partitions(broker, topic)
    config = checked_config(broker.store.defaults, {c.name: c.value for c in topic.configs})
    made = None
    if not validate_only:
        try:
            made = await broker.in_thread(lambda: broker.store.create(topic.name, partitions, config))
        except TopicExists as error:
            raise KafkaError(ErrorCode.topic_already_exists, str(error)) from None
        except OSError as error:
            raise KafkaError(ErrorCode.kafka_storage_error, str(error)) from error
    effective = effective_config(broker.store.defaults, config)
    return {
        "error_code": 0,
        "topic_id": made and made.id,
        "num_partitions": partitions,
        "replication_factor": 1,
        "configs": [
            {
                "name": name,
                "value": effective[name],
                "config_source": _DYNAMIC_TOPIC_CONFIG if name in config else _DEFAULT_CONFIG,
            }
            for name in TOPIC_CONFIGS
        ],
    }


def _partitions(broker: Broker, topic: Any) -> int:
    if topic.assignments:
        indexes = sorted(a.partition_index for a in topic.assignments)
        here = all(list(a.broker_ids) == [broker.node_id] for a in topic.assignments)
        given = topic.num_partitions == -1 and topic.replication_factor == -1
        if indexes != list(range(len(indexes))) or not here or not given:
            raise KafkaError(
                ErrorCode.invalid_replica_assignment, f"replicas can only be on broker {broker.node_id}"
            )
        partitions = len(indexes)
    else:
        if topic.replication_factor not in (-1, 1):
            raise KafkaError(
                ErrorCode.invalid_replication_factor,
                f"replication factor {topic.replication_factor}, and the number of brokers is 1",
            )
        partitions = topic.num_partitions
        if partitions == -1:
            partitions = broker.settings.default_partitions
    if not 1 <= partitions <= MAX_PARTITIONS:
        raise KafkaError(
            ErrorCode.invalid_partitions, f"{partitions} partitions; 1 to {MAX_PARTITIONS} can be"
        )
    return partitions
