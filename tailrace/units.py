"""Sizes and durations as people write them: `64MiB`, `1_000_000`, `5m`, `1h30m`."""

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_SIZES = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?) ?([A-Za-z]*)")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|[smhdw]))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhdw])")


def parse_size(value: object) -> int:
    """Bytes. An int is bytes; units are decimal (kB, MB) or binary (KiB, MiB)."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())) and match[2] in _SIZES:
        return int(float(match[1].replace("_", "")) * _SIZES[match[2]])
    raise ValueError(f"expected a size such as 64MiB, 10MB or a number of bytes, not {value!r}")


def parse_duration(value: object) -> float:
    """Seconds. A number is seconds; a text has units and may join them (`1h30m`)."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    if isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        return sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(value))
    raise ValueError(f"expected a duration such as 5m, 1h30m, 200ms or a number of seconds, not {value!r}")


def show_size(n: float) -> str:
    """`1.5 MiB`: three significant places at the most, binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "B" or n >= 100 else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} TiB"


def _show_exact_size(n: int) -> str:
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if n and n % _SIZES[unit] == 0:
            return f"{n // _SIZES[unit]}{unit}"
    return str(n)


def _show_duration(seconds: float) -> str:
    for unit in ("w", "d", "h", "m", "s"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{int(seconds // _SECONDS[unit])}{unit}"
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(_show_exact_size, when_used="json"),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["64MiB", 1048576]}),
]
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(_show_duration, when_used="json"),
    WithJsonSchema({"type": ["string", "number"], "examples": ["5m", "200ms", 30]}),
]
