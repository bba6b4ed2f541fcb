"""What kio's generated dataclasses say about a message: one Column a field, for the reader and the
builder.
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from kio.schema.errors import ErrorCode

_ZEROS: dict[str, Any] = {
    "bool": False,
    "bytes": b"",
    "datetime_i64": datetime.fromtimestamp(0, UTC),
    "error_code": ErrorCode.none,
    "float64": 0.0,
    "records": None,
    "string": "",
    "timedelta_i32": timedelta(0),
    "timedelta_i64": timedelta(0),
    "uuid": uuid.UUID(int=0),
}
"""What Kafka's own generated code gives a field without a default; 0 for all integers."""


R = TypeVar("R")


def cached(function: Callable[[type[Any]], R]) -> Callable[[type[Any]], R]:
    """functools.cache for functions of a class; mypy does not take a class for hashable."""
    wrapped: Any = cache(function)
    of_class: Callable[[type[Any]], R] = wrapped
    return of_class


@dataclass(frozen=True, slots=True)
class Column:
    """A field of a message: a primitive of `kafka_type`, or a nested `entity`; several of them when `array`.

    `nullable` is about the array when there is one. `default` is what stands for an absent tagged field,
    and for a field that a builder was not given.
    """

    name: str
    kafka_type: str
    entity: type[Any] | None
    array: bool
    nullable: bool
    tag: int | None
    default: Any


@cached
def columns(entity: type[Any]) -> Sequence[Column]:
    """The fields of a kio message type, in the order they are written (tagged ones anywhere)."""
    return tuple(_column(field) for field in fields(entity))


def _column(field: Field[Any]) -> Column:
    inner, nullable = _without_none(field.type)
    array = get_origin(inner) is tuple
    if array:
        inner, _ = _without_none(get_args(inner)[0])
    entity = inner if is_dataclass(inner) and isinstance(inner, type) else None
    kafka_type = field.metadata.get("kafka_type", "")
    if field.default is not MISSING:
        default = field.default
    elif array:
        default = ()
    elif nullable:
        default = None
    elif entity is not None:
        default = entity(**{column.name: column.default for column in columns(entity)})
    else:
        default = _ZEROS.get(kafka_type, 0)
    return Column(field.name, kafka_type, entity, array, nullable, field.metadata.get("tag"), default)


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if get_origin(annotation) not in (UnionType, Union):
        return annotation, False
    rest = [a for a in get_args(annotation) if a is not NoneType]
    assert len(rest) == 1, f"a union of more than one type: {annotation}"
    return rest[0], True
