"""The bounded reader of Kafka messages: compiles one closure a message type from kio's schema dataclasses.

Nothing is allocated before the bytes for it are known to be there: each count is checked against the
bytes left and against a budget of elements for the whole message. Unknown tagged fields are skipped
(KIP-482), unknown error codes stay numbers, trailing bytes are refused. Whatever is wrong, Corrupt comes
out and nothing else.
"""

import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, TypeVar

from kio.schema.errors import ErrorCode

from tailrace.broker.wire.schema import Column, cached, columns
from tailrace.errors import Corrupt

MAX_ELEMENTS = 200_000
"""Array elements (and tagged fields) one message may hold in all; each becomes Python objects of up to some
200 bytes.
"""

T = TypeVar("T")


@dataclass(slots=True)
class Budget:
    """Elements that the message being read may still hold."""

    left: int

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise Corrupt("more array elements than one message may hold")


Read = Callable[[memoryview, int, Budget], tuple[Any, int]]
"""(view, at, budget) -> (value, the byte behind it). Raises Corrupt, or one of _NOT_READABLE."""

_NOT_READABLE = (struct.error, IndexError, ValueError, OverflowError)
_INT32 = struct.Struct(">i")
_INT16 = struct.Struct(">h")


def read_entity(entity: type[T], view: memoryview, *, elements: int = MAX_ELEMENTS) -> T:
    """The `entity` that fills `view` to its last byte; Corrupt when it does not, or when it breaks a
    bound.
    """
    value, end = read_part(entity, view, 0, elements=elements)
    if end != len(view):
        raise Corrupt(f"{entity.__name__}: {len(view) - end} bytes are left over behind it")
    return value


def read_part(entity: type[T], view: memoryview, at: int, *, elements: int = MAX_ELEMENTS) -> tuple[T, int]:
    """The `entity` that starts at byte `at`, and the byte behind it."""
    try:
        return reader_of(entity)(view, at, Budget(elements))
    except _NOT_READABLE as error:
        raise Corrupt(f"{entity.__name__} is cut short or malformed: {error}") from None


def read_uvarint(view: memoryview, at: int) -> tuple[int, int]:
    """An unsigned varint of at most 32 bits. IndexError at the end of the view."""
    byte = view[at]
    if byte < 0x80:
        return byte, at + 1
    value = byte & 0x7F
    for shift in (7, 14, 21, 28):
        at += 1
        byte = view[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > 0xFFFFFFFF:
                break
            return value, at + 1
    raise Corrupt("a varint of more than 32 bits")


def read_compact_length(view: memoryview, at: int) -> tuple[int, int]:
    """Length of a compact string, bytes or array (-1: null), checked against the bytes left."""
    length, at = read_uvarint(view, at)
    if length - 1 > len(view) - at:
        raise Corrupt(f"a length of {length - 1} with {len(view) - at} bytes left")
    return length - 1, at


def read_compact_string_length(view: memoryview, at: int) -> tuple[int, int]:
    """As read_compact_length; Kafka takes no string that its int16 of other versions could not hold."""
    length, at = read_compact_length(view, at)
    if length > 0x7FFF:
        raise Corrupt(f"a string of {length} bytes")
    return length, at


def skip_tags(view: memoryview, at: int, budget: Budget) -> int:
    """The byte behind a section of tagged fields, none of which is wanted."""
    count, at = read_uvarint(view, at)
    if count:
        at, _ = _read_tags({}, view, at, count, budget)
    return at


def _read_tags(
    known: dict[int, tuple[str, Read]], view: memoryview, at: int, count: int, budget: Budget
) -> tuple[int, dict[str, Any]]:
    if 2 * count > len(view) - at:
        raise Corrupt(f"{count} tagged fields with {len(view) - at} bytes left")
    budget.take(count)
    values: dict[str, Any] = {}
    for _ in range(count):
        tag, at = read_uvarint(view, at)
        size, at = read_uvarint(view, at)
        if size > len(view) - at:
            raise Corrupt(f"a tagged field of {size} bytes with {len(view) - at} left")
        if tag in known:
            name, read = known[tag]
            values[name], end = read(view[: at + size], at, budget)
            if end != at + size:
                raise Corrupt(f"tagged field {name} does not fill its {size} bytes")
        at += size
    return at, values


def read_legacy_length(view: memoryview, at: int) -> tuple[int, int]:
    """An int32 length or count (-1: null), checked against the bytes left."""
    (length,) = _INT32.unpack_from(view, at)
    return _checked(length, view, at + 4)


def read_short_length(view: memoryview, at: int) -> tuple[int, int]:
    """An int16 length of a string (-1: null), checked against the bytes left."""
    (length,) = _INT16.unpack_from(view, at)
    return _checked(length, view, at + 2)


def _checked(length: int, view: memoryview, at: int) -> tuple[int, int]:
    if length < -1 or length > len(view) - at:
        raise Corrupt(f"a length of {length} with {len(view) - at} bytes left")
    return length, at


_ERROR_CODES: dict[int, ErrorCode] = {int(code): code for code in ErrorCode}
_NO_ID = bytes(16)
_EPOCH = datetime.fromtimestamp(0, UTC)


def _error_code(number: int) -> int:
    return _ERROR_CODES.get(number, number)


def _milliseconds(number: int) -> timedelta:
    return timedelta(milliseconds=number)


def _moment(number: int) -> datetime | None:
    return None if number == -1 else _EPOCH + timedelta(milliseconds=number)


def _topic_id(data: bytes) -> uuid.UUID | None:
    return None if data == _NO_ID else uuid.UUID(bytes=data)


_FIXED: dict[str, tuple[str, Callable[[Any], Any] | None]] = {
    "bool": ("?", None),
    "datetime_i64": ("q", _moment),
    "error_code": ("h", _error_code),
    "float64": ("d", None),
    "int8": ("b", None),
    "int16": ("h", None),
    "int32": ("i", None),
    "int64": ("q", None),
    "timedelta_i32": ("i", _milliseconds),
    "timedelta_i64": ("q", _milliseconds),
    "uint8": ("B", None),
    "uint16": ("H", None),
    "uint32": ("I", None),
    "uint64": ("Q", None),
    "uuid": ("16s", _topic_id),
}
"""Primitives of fixed width: struct code, and what makes the value of what struct gives."""

_SIZED: dict[str, tuple[Callable[[memoryview, int], tuple[int, int]], Callable[[memoryview], Any]]] = {
    "string": (read_short_length, lambda part: str(part, "utf-8")),
    "bytes": (read_legacy_length, bytes),
    "records": (read_legacy_length, bytes),
}


@cached
def reader_of(entity: type[Any]) -> Read:
    """The compiled reader of a kio message type."""
    flexible: bool = entity.__flexible__
    plain = [column for column in columns(entity) if column.tag is None]
    steps = [
        step
        for fixed, run in groupby(plain, key=lambda c: not c.array and c.kafka_type in _FIXED)
        for step in ([_run(list(run))] if fixed else [_single(column, flexible) for column in run])
    ]
    tagged = {c.tag: (c.name, _read_value(c, flexible)) for c in columns(entity) if c.tag is not None}
    defaults = {c.name: c.default for c in columns(entity) if c.tag is not None}

    def read(view: memoryview, at: int, budget: Budget) -> tuple[Any, int]:
        values = defaults.copy()
        for step in steps:
            at = step(view, at, budget, values)
        if flexible:
            count, at = read_uvarint(view, at)
            if count:
                at, found = _read_tags(tagged, view, at, count, budget)
                values.update(found)
        return entity(**values), at

    return read


Step = Callable[[memoryview, int, Budget, dict[str, Any]], int]


def _run(run: list[Column]) -> Step:
    """Neighbours of fixed width: one unpack for all of them."""
    layout = struct.Struct(">" + "".join(_FIXED[column.kafka_type][0] for column in run))
    names = [column.name for column in run]
    converters = [(c.name, convert) for c in run if (convert := _FIXED[c.kafka_type][1]) is not None]

    def step(view: memoryview, at: int, _: Budget, values: dict[str, Any]) -> int:
        values.update(zip(names, layout.unpack_from(view, at), strict=True))
        for name, convert in converters:
            values[name] = convert(values[name])
        return at + layout.size

    return step


def _single(column: Column, flexible: bool) -> Step:
    read, name = _read_value(column, flexible), column.name

    def step(view: memoryview, at: int, budget: Budget, values: dict[str, Any]) -> int:
        values[name], at = read(view, at, budget)
        return at

    return step


def _read_value(column: Column, flexible: bool) -> Read:
    if column.entity is not None:
        one = reader_of(column.entity)
        if column.array:
            return _array(one, column, flexible)
        return _nullable_entity(one) if column.nullable and column.tag is None else one
    if column.kafka_type in _FIXED:
        one = _fixed(column.kafka_type)
    else:
        one = _sized(column, flexible)
    return _array(one, column, flexible) if column.array else one


def _fixed(kafka_type: str) -> Read:
    code, convert = _FIXED[kafka_type]
    layout = struct.Struct(">" + code)

    def read(view: memoryview, at: int, _: Budget) -> tuple[Any, int]:
        (value,) = layout.unpack_from(view, at)
        return (value if convert is None else convert(value)), at + layout.size

    return read


def _sized(column: Column, flexible: bool) -> Read:
    read_length, make = _SIZED[column.kafka_type]
    if flexible:
        read_length = read_compact_string_length if column.kafka_type == "string" else read_compact_length
    nullable, name = column.nullable and not column.array, column.name

    def read(view: memoryview, at: int, _: Budget) -> tuple[Any, int]:
        length, at = read_length(view, at)
        if length < 0:
            if not nullable:
                raise Corrupt(f"{name} is null")
            return None, at
        return make(view[at : at + length]), at + length

    return read


def _array(one: Read, column: Column, flexible: bool) -> Read:
    read_length = read_compact_length if flexible else read_legacy_length
    nullable, name = column.nullable, column.name

    def read(view: memoryview, at: int, budget: Budget) -> tuple[Any, int]:
        count, at = read_length(view, at)
        if count < 0:
            if not nullable:
                raise Corrupt(f"{name} is null")
            return None, at
        budget.take(count)
        values = []
        for _ in range(count):
            value, at = one(view, at, budget)
            values.append(value)
        return tuple(values), at

    return read


def _nullable_entity(one: Read) -> Read:
    """KIP-893: a byte in front, negative for null."""

    def read(view: memoryview, at: int, budget: Budget) -> tuple[Any, int]:
        return (None, at + 1) if view[at] >= 0x80 else one(view, at + 1, budget)

    return read
