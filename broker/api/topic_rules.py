"""What a topic may be: its name, its number of partitions, its settings under Kafka's names."""

from collections.abc import Mapping
from dataclasses import dataclass

from tailrace.broker.log.config import LogConfig
from tailrace.broker.wire.errors import ErrorCode, KafkaError

_INTERNAL = frozenset(("__consumer_offsets", "__transaction_state"))
MAX_PARTITIONS = 10_000
"""Partitions of one topic: each is a directory and an open file."""

BOOLEAN, STRING, INT, LONG, DOUBLE, LIST = 1, 2, 3, 5, 6, 7


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """A topic setting of Kafka's: its type in DescribeConfigs, its default, and which values are taken
    (None: any).
    """

    kind: int
    default: str
    values: tuple[str, ...] | None = None


TOPIC_CONFIGS: Mapping[str, TopicConfig] = {
    "cleanup.policy": TopicConfig(LIST, "delete"),
    "compression.type": TopicConfig(STRING, "producer", ("producer",)),
    "delete.retention.ms": TopicConfig(LONG, "86400000"),
    "file.delete.delay.ms": TopicConfig(LONG, "60000"),
    "flush.messages": TopicConfig(LONG, "9223372036854775807"),
    "flush.ms": TopicConfig(LONG, "9223372036854775807"),
    "index.interval.bytes": TopicConfig(INT, "4096"),
    "max.compaction.lag.ms": TopicConfig(LONG, "9223372036854775807"),
    "max.message.bytes": TopicConfig(INT, "1048588"),
    "message.timestamp.type": TopicConfig(STRING, "CreateTime"),
    "min.cleanable.dirty.ratio": TopicConfig(DOUBLE, "0.5"),
    "min.compaction.lag.ms": TopicConfig(LONG, "0"),
    "min.insync.replicas": TopicConfig(INT, "1"),
    "preallocate": TopicConfig(BOOLEAN, "false", ("false",)),
    "retention.bytes": TopicConfig(LONG, "-1"),
    "retention.ms": TopicConfig(LONG, "604800000"),
    "segment.bytes": TopicConfig(INT, "1073741824"),
    "segment.index.bytes": TopicConfig(INT, "10485760"),
    "segment.jitter.ms": TopicConfig(LONG, "0"),
    "segment.ms": TopicConfig(LONG, "604800000"),
    "unclean.leader.election.enable": TopicConfig(BOOLEAN, "false"),
}
"""What may be set on a topic. Settings that broker.log does not read are kept and shown, and change
nothing.
"""


def is_internal(name: str) -> bool:
    """Whether the topic is the coordinators' own: clients neither make, write nor delete it."""
    return name in _INTERNAL


def checked_config(defaults: LogConfig, config: Mapping[str, str | None]) -> dict[str, str]:
    """The settings as they are kept (null means the default, so it is left out). KafkaError
    INVALID_CONFIG.
    """
    kept = {name: value for name, value in config.items() if value is not None}
    for name, value in kept.items():
        known = TOPIC_CONFIGS.get(name)
        if known is None:
            raise KafkaError(ErrorCode.invalid_config, f"unknown topic config {name}")
        if known.values is not None and value not in known.values:
            raise KafkaError(
                ErrorCode.invalid_config,
                f"{name}={value}: only {' or '.join(known.values)} is supported here",
            )
    try:
        defaults.with_topic(kept)
    except ValueError as error:
        raise KafkaError(ErrorCode.invalid_config, str(error)) from None
    return kept


def effective_config(defaults: LogConfig, config: Mapping[str, str]) -> dict[str, str]:
    """Every setting of a topic with the value that holds, defaults among them."""
    shown = {name: known.default for name, known in TOPIC_CONFIGS.items()}
    return shown | defaults.with_topic(config).to_topic() | dict(config)
