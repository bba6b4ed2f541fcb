"""Metadata (key 3), versions 0 to 12: the one broker, the topics and their ids; makes topics that are
asked for.

KIP-4 (version 1: null asks for all), KIP-204 (auto-creation can be refused per request), KIP-516
(topic ids). Not here: authorized operations (KIP-430). A topic is made before it is answered, so
clients need not ask again.
"""

from collections.abc import Mapping
from typing import Any

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.api.topic_rules import is_internal
from tailrace.broker.log.names import valid_topic
from tailrace.broker.log.store import Topic
from tailrace.broker.wire.errors import ErrorCode, KafkaError
from tailrace.broker.wire.messages import Request, encoded, response

_METADATA = 3
_KEPT = 64
_cache: dict[tuple[Any, ...], tuple[Mapping[str, Topic], bytes]] = {}
"""Answers as bytes, with the store's topics (a new mapping after each change) that they were made of."""


@handles(_METADATA, versions=(0, 12))
async def metadata(request: Request, session: Session, broker: Broker) -> Answer:
    body, version = request.body, request.api_version
    asked = None if body.topics is None or (version == 0 and not body.topics) else body.topics
    errors: dict[str, ErrorCode] = {}
    may_create = broker.settings.auto_create_topics and getattr(body, "allow_auto_topic_creation", True)
    if asked is not None and may_create:
        errors = await _create_missing(broker, {topic.name for topic in asked if topic.name is not None})
    host, port = broker.advertised(session)
    names = None if asked is None else tuple((t.name, getattr(t, "topic_id", None)) for t in asked)
    key = (broker.store.cluster_id, version, names, host, port)
    kept = _cache.get(key)
    if kept is not None and kept[0] is broker.store.topics() and not errors:
        return kept[1]
    topics = broker.store.topics()
    if names is None:
        shown = [_topic(broker, topic) for topic in topics.values()]
    else:
        shown = [_asked(broker, topics, name, topic_id, errors) for name, topic_id in names]
    answer = response(
        _METADATA,
        version,
        brokers=[{"node_id": broker.node_id, "host": host, "port": port}],
        cluster_id=broker.store.cluster_id,
        controller_id=broker.node_id,
        topics=shown,
    )
    data = encoded(_METADATA, version, answer)
    if not errors and len(data) < 1 << 18 and (names is None or len(names) < 100):
        while len(_cache) >= _KEPT:
            del _cache[next(iter(_cache))]
        _cache[key] = topics, data
    return data


async def _create_missing(broker: Broker, names: set[str]) -> dict[str, ErrorCode]:
    errors = {}
    for name in sorted(names):
        if broker.store.topic(name) is not None or is_internal(name):
            continue
        if not valid_topic(name):
            errors[name] = ErrorCode.invalid_topic_exception
            continue
        try:
            await broker.ensure_topic(name, broker.settings.default_partitions, {})
        except KafkaError as error:
            errors[name] = ErrorCode(error.code)
    return errors


def _asked(
    broker: Broker,
    topics: Mapping[str, Topic],
    name: str | None,
    topic_id: Any,
    errors: Mapping[str, ErrorCode],
) -> dict[str, Any]:
    topic = topics.get(name) if name is not None else broker.store.topic_by_id(topic_id) if topic_id else None
    if topic is not None:
        return _topic(broker, topic)
    if name is None:
        return {"name": None, "topic_id": topic_id, "error_code": ErrorCode.unknown_topic_id}
    code = errors.get(name, ErrorCode.unknown_topic_or_partition)
    if not valid_topic(name):
        code = ErrorCode.invalid_topic_exception
    return {"name": name, "error_code": code}


def _topic(broker: Broker, topic: Topic) -> dict[str, Any]:
    here = [broker.node_id]
    return {
        "error_code": 0,
        "name": topic.name,
        "topic_id": topic.id,
        "is_internal": is_internal(topic.name),
        "partitions": [
            {
                "error_code": 0,
                "partition_index": index,
                "leader_id": broker.node_id,
                "leader_epoch": log.leader_epoch,
                "replica_nodes": here,
                "isr_nodes": here,
            }
            for index, log in enumerate(topic.partitions)
        ],
    }
