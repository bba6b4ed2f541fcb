"""Message bodies from plain values, so that one piece of code serves all versions of an API key."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.schema import Column, cached, columns

T = TypeVar("T")


def build(entity: type[T], values: Mapping[str, Any], known: Callable[[str], bool]) -> T:
    """An `entity` of what `values` has: mappings for nested entities, ints for milliseconds and error codes.

    What the entity's version lacks is dropped if `known(dotted name)` says that another version has it, and
    TypeError otherwise; what is not given takes the schema's default, or zero.
    """
    made: T = _builder(entity)(values, known, "")
    return made


def to_milliseconds(value: timedelta) -> int:
    """What kio has as a timedelta, as the integer that was on the wire."""
    return value // _MILLISECOND


_MILLISECOND = timedelta(milliseconds=1)

Make = Callable[[Mapping[str, Any], Callable[[str], bool], str], Any]


@cached
def _builder(entity: type[Any]) -> Make:
    defaults = {column.name: column.default for column in columns(entity)}
    converters = {column.name: _converter(column) for column in columns(entity)}

    def make(values: Mapping[str, Any], known: Callable[[str], bool], path: str) -> Any:
        fields = defaults.copy()
        for name, value in values.items():
            convert = converters.get(name)
            if convert is not None:
                fields[name] = convert(value, known, f"{path}{name}.")
            elif name not in converters and not known(path + name):
                raise TypeError(f"{entity.__name__} has no field {path}{name} in any version")
            elif name in converters:
                fields[name] = value
        return entity(**fields)

    return make


Convert = Callable[[Any, Callable[[str], bool], str], Any]


def _converter(column: Column) -> Convert | None:
    """None when the value goes in as it is."""
    if column.entity is not None:
        make = _builder(column.entity)
        kind = column.entity

        def nested(value: Any, known: Callable[[str], bool], path: str) -> Any:
            return value if isinstance(value, kind) else make(value, known, path)

        return _each(nested) if column.array else _unless_none(nested)
    scalar = _SCALARS.get(column.kafka_type)
    if column.array:
        return _each(scalar or _as_is)
    return None if scalar is None else _unless_none(scalar)


def _as_is(value: Any, known: Callable[[str], bool], path: str) -> Any:  # noqa: ARG001
    return value


def _error_code(value: Any, known: Callable[[str], bool], path: str) -> Any:  # noqa: ARG001
    return value if isinstance(value, ErrorCode) else ErrorCode(value)


def _duration(value: Any, known: Callable[[str], bool], path: str) -> Any:  # noqa: ARG001
    return value if isinstance(value, timedelta) else timedelta(milliseconds=value)


_SCALARS: dict[str, Convert] = {
    "error_code": _error_code,
    "timedelta_i32": _duration,
    "timedelta_i64": _duration,
}


def _each(convert: Convert) -> Convert:
    def array(value: Any, known: Callable[[str], bool], path: str) -> Any:
        return None if value is None else tuple(convert(item, known, path) for item in value)

    return array


def _unless_none(convert: Convert) -> Convert:
    def optional(value: Any, known: Callable[[str], bool], path: str) -> Any:
        return None if value is None else convert(value, known, path)

    return optional
