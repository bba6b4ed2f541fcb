"""Which component types exist: ours by a table, third parties' by entry points. Nothing is imported before use."""

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

Kind = Literal["source", "channel", "sink", "interceptor"]

_BUILT_IN: dict[Kind, dict[str, str]] = {
    "source": {
        "kafka": "tailrace.sources.kafka:KafkaSource",
        "sequence": "tailrace.sources.sequence:SequenceSource",
        "spool": "tailrace.sources.spool.source:SpoolSource",
        "tail": "tailrace.sources.tail.source:TailSource",
    },
    "channel": {
        "file": "tailrace.channels.file:FileChannel",
        "memory": "tailrace.channels.memory:MemoryChannel",
    },
    "sink": {
        "kafka": "tailrace.sinks.kafka:KafkaSink",
        "logger": "tailrace.sinks.logger:LoggerSink",
        "null": "tailrace.sinks.null:NullSink",
        "parquet": "tailrace.sinks.parquet.sink:ParquetSink",
    },
    "interceptor": {},
}


def types(kind: Kind) -> list[str]:
    """Names of all types of a kind, sorted."""
    return sorted({*_BUILT_IN[kind], *(point.name for point in entry_points(group=f"tailrace.{kind}s"))})


def component(kind: Kind, type_name: str) -> Any:
    """The component's class; it has `Settings` (a pydantic model) and is called with (settings, context).

    KeyError when there is no such type.
    """
    if type_name in _BUILT_IN[kind]:
        module, _, name = _BUILT_IN[kind][type_name].partition(":")
        return getattr(import_module(module), name)
    for point in entry_points(group=f"tailrace.{kind}s", name=type_name):
        return point.load()
    raise KeyError(type_name)
