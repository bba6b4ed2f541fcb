"""DescribeConfigs (key 32), versions 1 to 4: the settings of topics and of the broker, defaults among them.

KIP-133, KIP-226 (where a value comes from), KIP-569 (types). Not here: documentation texts, logger levels.
"""

from collections.abc import Mapping
from typing import Any

from tailrace.broker.api.broker import Broker
from tailrace.broker.api.registry import Answer, Session, handles
from tailrace.broker.api.topic_rules import BOOLEAN, INT, LONG, STRING, TOPIC_CONFIGS, effective_config
from tailrace.broker.wire.errors import ErrorCode, KafkaError
from tailrace.broker.wire.messages import Request, response

_TOPIC, _BROKER = 2, 4
_DYNAMIC_TOPIC_CONFIG, _STATIC_BROKER_CONFIG, _DEFAULT_CONFIG = 1, 4, 5


@handles(32, versions=(1, 4))
def describe_configs(request: Request, _: Session, broker: Broker) -> Answer:
    body = request.body
    results = []
    for resource in body.resources:
        answer: dict[str, Any] = {
            "resource_type": resource.resource_type,
            "resource_name": resource.resource_name,
        }
        try:
            configs = _configs(broker, resource, body.include_synonyms)
            keys = resource.configuration_keys
            wanted = [c for c in configs if keys is None or c["name"] in keys]
            answer |= {"error_code": 0, "configs": wanted}
        except KafkaError as error:
            answer |= {"error_code": error.code, "error_message": str(error)}
        results.append(answer)
    return response(32, request.api_version, results=results)


def _configs(broker: Broker, resource: Any, synonyms: bool) -> list[dict[str, Any]]:
    if resource.resource_type == _TOPIC:
        return _of_topic(broker, resource.resource_name, synonyms)
    if resource.resource_type == _BROKER:
        if resource.resource_name not in ("", str(broker.node_id)):
            raise KafkaError(ErrorCode.invalid_request, f"this is broker {broker.node_id}")
        return _of_broker(broker, synonyms)
    raise KafkaError(
        ErrorCode.invalid_request, f"resource type {resource.resource_type} has no settings here"
    )


def _of_topic(broker: Broker, name: str, synonyms: bool) -> list[dict[str, Any]]:
    topic = broker.store.topic(name)
    if topic is None:
        raise KafkaError(ErrorCode.unknown_topic_or_partition, f"there is no topic {name}")
    defaults = effective_config(broker.store.defaults, {})
    configs = []
    for key, value in effective_config(broker.store.defaults, topic.config).items():
        source = _DYNAMIC_TOPIC_CONFIG if key in topic.config else _DEFAULT_CONFIG
        chain = (
            [(source, value)]
            if source == _DEFAULT_CONFIG
            else [(source, value), (_DEFAULT_CONFIG, defaults[key])]
        )
        configs.append(_config(key, value, TOPIC_CONFIGS[key].kind, source, chain if synonyms else ()))
    return configs


def _of_broker(broker: Broker, synonyms: bool) -> list[dict[str, Any]]:
    settings = broker.settings
    shown: Mapping[str, tuple[str, int]] = {
        "auto.create.topics.enable": (str(settings.auto_create_topics).lower(), BOOLEAN),
        "broker.id": (str(broker.node_id), INT),
        "compression.type": ("producer", STRING),
        "default.replication.factor": ("1", INT),
        "listeners": (f"PLAINTEXT://{settings.listen}", STRING),
        "log.dirs": (broker.store.data_dir, STRING),
        "log.flush.interval.ms": (str(round(settings.flush_interval * 1000)), LONG),
        "max.connections": (str(settings.max_connections), INT),
        "message.max.bytes": (str(broker.store.defaults.max_message_bytes), INT),
        "num.partitions": (str(settings.default_partitions), INT),
        "socket.request.max.bytes": (str(settings.max_request), INT),
    }
    source = _STATIC_BROKER_CONFIG
    return [
        _config(key, value, kind, source, [(source, value)] if synonyms else (), read_only=True)
        for key, (value, kind) in shown.items()
    ]


def _config(
    name: str, value: str, kind: int, source: int, chain: Any, *, read_only: bool = False
) -> dict[str, Any]:
    return {
        "name": name,
        "value": value,
        "read_only": read_only,
        "config_source": source,
        "config_type": kind,
        "synonyms": [{"name": name, "value": text, "source": where} for where, text in chain],
    }
