"""A topic's settings as its log needs them, read from Kafka's own names (`retention.ms`, ...)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

_MAX_INT = 2**31 - 1
_MAX_LONG = 2**63 - 1


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Sizes in bytes, times in ms; -1 is no bound. The defaults are Kafka's."""

    segment_bytes: int = 1 << 30
    segment_ms: int = 7 * 86_400_000
    index_interval_bytes: int = 4096
    segment_index_bytes: int = 10 << 20
    retention_ms: int = 7 * 86_400_000
    retention_bytes: int = -1
    delete_retention_ms: int = 86_400_000
    min_compaction_lag_ms: int = 0
    min_cleanable_dirty_ratio: float = 0.5
    compact: bool = False
    delete: bool = True
    log_append_time: bool = False
    max_message_bytes: int = 1_048_588
    producer_expiry_ms: int = 86_400_000

    def with_topic(self, settings: Mapping[str, str]) -> "LogConfig":
        """These settings with a topic's own over them. ValueError names the first one that is wrong.

        Names that only other parts of a broker read (`compression.type`, ...) are let through.
        """
        changes: dict[str, Any] = {}
        for name, text in settings.items():
            entry = _TOPIC_SETTINGS.get(name)
            if entry is None:
                continue
            field, parse = entry
            try:
                changes |= parse(text) if field is None else {field: parse(text)}
            except ValueError as error:
                raise ValueError(f"{name}={text!r}: {error}") from None
        return replace(self, **changes)

    def to_topic(self) -> dict[str, str]:
        """The same values under Kafka's names, for DescribeConfigs."""
        policy = ",".join(name for name, on in (("compact", self.compact), ("delete", self.delete)) if on)
        shown = {
            name: f"{getattr(self, field)}"
            for name, (field, _) in _TOPIC_SETTINGS.items()
            if field is not None
        }
        kind = "LogAppendTime" if self.log_append_time else "CreateTime"
        return shown | {"cleanup.policy": policy, "message.timestamp.type": kind}


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return value

    return parse


def _ratio(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError("expected a number from 0 to 1")
    return value


def _policy(text: str) -> dict[str, bool]:
    names = {name.strip() for name in text.split(",") if name.strip()}
    if not names or names - {"compact", "delete"}:
        raise ValueError("expected delete, compact, or both with a comma between")
    return {"compact": "compact" in names, "delete": "delete" in names}


def _timestamp_type(text: str) -> dict[str, bool]:
    if text not in ("CreateTime", "LogAppendTime"):
        raise ValueError("expected CreateTime or LogAppendTime")
    return {"log_append_time": text == "LogAppendTime"}


_TOPIC_SETTINGS: dict[str, tuple[str | None, Callable[[str], Any]]] = {
    "cleanup.policy": (None, _policy),
    "delete.retention.ms": ("delete_retention_ms", _whole(0, _MAX_LONG)),
    "index.interval.bytes": ("index_interval_bytes", _whole(0, _MAX_INT)),
    "max.message.bytes": ("max_message_bytes", _whole(0, _MAX_INT)),
    "message.timestamp.type": (None, _timestamp_type),
    "min.cleanable.dirty.ratio": ("min_cleanable_dirty_ratio", _ratio),
    "min.compaction.lag.ms": ("min_compaction_lag_ms", _whole(0, _MAX_LONG)),
    "retention.bytes": ("retention_bytes", _whole(-1, _MAX_LONG)),
    "retention.ms": ("retention_ms", _whole(-1, _MAX_LONG)),
    "segment.bytes": ("segment_bytes", _whole(14, _MAX_INT)),
    "segment.index.bytes": ("segment_index_bytes", _whole(12, _MAX_INT)),
    "segment.ms": ("segment_ms", _whole(1, _MAX_LONG)),
}
