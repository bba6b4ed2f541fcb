"""Kafka messages of random values, made from kio's schemas: what the wire tests feed to the readers and
writers.
"""

import random
import string
import uuid
from datetime import timedelta
from typing import Any

from tailrace.broker.wire.errors import ErrorCode
from tailrace.broker.wire.schema import Column, columns

_BOUNDS = {
    "int8": (-(2**7), 2**7 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint16": (0, 2**16 - 1),
    "uint32": (0, 2**32 - 1),
}
_TEXT = string.ascii_letters + "-._äß€𝄞\0"


def sample(entity: type[Any], rng: random.Random) -> Any:
    """One message of that kio type; nulls, empty arrays, extreme numbers and long strings all come up."""
    return entity(**{column.name: _value(column, rng) for column in columns(entity)})


def _value(column: Column, rng: random.Random) -> Any:
    if column.tag is not None and rng.random() < 0.5:
        return column.default
    # kio's writer takes no null in a tagged field: there, null is the field's absence.
    if column.nullable and column.tag is None and rng.random() < 0.3:
        return None
    if column.array:
        return tuple(_one(column, rng) for _ in range(rng.choice((0, 1, 1, 2, 5))))
    return _one(column, rng)


def _one(column: Column, rng: random.Random) -> Any:
    if column.entity is not None:
        return sample(column.entity, rng)
    kind = column.kafka_type
    if kind in _BOUNDS:
        low, high = _BOUNDS[kind]
        return rng.choice((0, 1, -1 if low else 1, low, high, rng.randint(low, high)))
    if kind in ("timedelta_i32", "timedelta_i64"):
        return timedelta(milliseconds=rng.choice((0, -1, 1, 2**31 - 1, rng.randint(0, 2**31 - 1))))
    return {
        "bool": lambda: rng.random() < 0.5,
        "bytes": lambda: rng.randbytes(rng.choice((0, 1, 40, 130))),
        "error_code": lambda: rng.choice(list(ErrorCode)),
        "string": lambda: "".join(rng.choices(_TEXT, k=rng.choice((0, 1, 9, 200)))),
        "uuid": lambda: rng.choice((None, uuid.UUID(int=rng.getrandbits(128)))),
    }[kind]()
