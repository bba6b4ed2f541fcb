"""Path templates: `data/lake/%{topic}/dt=%Y-%m-%d/hour=%H`, parsed once.

A template keeps a literal prefix, the root; what a header or a name puts behind it is escaped, so that no
row can name a path outside the root, nor one that is ours (`_staging`, `_dead`) or hidden from readers.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tailrace.sinks.stores.select import Location, parse_location

MISSING = "__HIVE_DEFAULT_PARTITION__"
"""Stands for a header that is missing or empty, behind a `key=`: Hive, Spark and DuckDB read it as NULL."""
_MISSING_ELSEWHERE = "~missing"
"""The same where no key is in front: names that begin with `_` are hidden from those readers."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z: the last moment that a path can name; the first is 0 (Kafka's -1 is "none")."""

_STEP_SECONDS = {
    "Y": 86400,
    "y": 86400,
    "m": 86400,
    "d": 86400,
    "j": 86400,
    "H": 3600,
    "M": 60,
    "S": 1,
    "s": 1,
}
"""Escapes of time, and how long each stays the same; years and months are told apart by their text."""

_ESCAPE = re.compile(r"%(?:\{([^{}]*)\}|(.?))", re.DOTALL)
_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+@,")
_VALUE_BYTES = 120
_SEGMENT_CHARS = 200


@dataclass(frozen=True, slots=True)
class Literal:
    text: str


@dataclass(frozen=True, slots=True)
class Time:
    directive: str


@dataclass(frozen=True, slots=True)
class Value:
    """`%{name}`: the topic or partition number of a row from a topic, else the row's header."""

    name: str


Piece = Literal | Time | Value


@dataclass(frozen=True, slots=True)
class Template:
    """location    the store, and in `location.path` the root: the literal prefix, which no row can leave
    pieces      what is made for each row, behind the root; empty when the template has no escapes
    step_ms     rows whose timestamps agree in `timestamp // step_ms` agree in the path; None: no time in it
    """

    location: Location
    pieces: tuple[Piece, ...]
    step_ms: int | None

    @property
    def values(self) -> tuple[str, ...]:
        """Names in `%{}`, each once."""
        return tuple(dict.fromkeys(piece.name for piece in self.pieces if isinstance(piece, Value)))

    def directory(self, ms: int, values: dict[str, str]) -> str:
        """The path below the root, without slashes at its ends; `values` are escaped already.

        ms: since the epoch, 0 to LAST_MS.
        """
        moment = EPOCH + timedelta(milliseconds=ms)
        text = ""
        for piece in self.pieces:
            written = _write(piece, moment, values)
            text += _MISSING_ELSEWHERE if written == MISSING and not text.endswith("=") else written
        return "/".join(_bounded(segment) for segment in text.split("/"))


def parse_template(text: str) -> Template:
    """ValueError, with what is wrong and the remedy."""
    location = parse_location(text)
    pieces = _pieces(location.path.rstrip("/"))
    first = next((at for at, piece in enumerate(pieces) if not isinstance(piece, Literal)), None)
    head = pieces[0].text if pieces and isinstance(pieces[0], Literal) else ""
    if first is None:
        root, rest = head.rstrip("/"), []
    else:
        root, _, left = head.rpartition("/")
        rest = [Literal(left), *pieces[1:]] if first else list(pieces)
    if not root.strip("/"):
        raise ValueError(
            f"expected a directory in front of the first escape, as in data/lake/%{{topic}}, not {text!r}"
        )
    _check_segments(text, rest)
    steps = [_STEP_SECONDS[piece.directive] for piece in rest if isinstance(piece, Time)]
    return Template(
        Location(location.scheme, location.authority, root),
        tuple(piece for piece in rest if piece != Literal("")),
        min(steps) * 1000 if steps else None,
    )


def escape(value: bytes | None) -> str:
    """One part of a path, whatever a stranger put into the value: percent-encoded as by Hive, and bounded."""
    if not value:
        return MISSING
    text = "".join(chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in value[:_VALUE_BYTES])
    if text[0] in "._":
        text = f"%{ord(text[0]):02X}{text[1:]}"
    if len(value) > _VALUE_BYTES:
        text += f"~{hashlib.sha256(value).hexdigest()[:16]}"
    return text


def _pieces(path: str) -> Sequence[Piece]:
    pieces: list[Piece] = []
    literal, at = "", 0
    for match in _ESCAPE.finditer(path):
        literal += path[at : match.start()]
        at = match.end()
        name, directive = match[1], match[2]
        if name is None and directive == "%":
            literal += "%"
            continue
        pieces += [Literal(literal)] if literal else []
        literal = ""
        pieces.append(_piece(name, directive))
    literal += path[at:]
    return [*pieces, Literal(literal)] if literal else pieces


def _piece(name: str | None, directive: str) -> Piece:
    if name is not None:
        if not name.strip():
            raise ValueError("expected a header's name in %{}")
        return Value(name)
    if directive not in _STEP_SECONDS:
        raise ValueError(
            f"unknown escape %{directive}: there are {' '.join(f'%{d}' for d in _STEP_SECONDS)}, "
            "%{header} and %%"
        )
    return Time(directive)


def _check_segments(text: str, rest: Sequence[Piece]) -> None:
    if any(ord(character) < 32 for character in text):
        raise ValueError(f"control characters in {text!r}")
    shape = "".join(piece.text if isinstance(piece, Literal) else "*" for piece in rest)
    segments = shape.split("/") if shape else []
    if any(not segment for segment in segments) or any(segment in (".", "..") for segment in segments):
        raise ValueError(f"a part of {text!r} is empty, `.` or `..`")
    if segments and segments[0][0] in "._":
        raise ValueError(
            f"{segments[0]!r} in {text!r}: names with `_` or `.` in front there are Tailrace's own"
        )


def _write(piece: Piece, moment: datetime, values: dict[str, str]) -> str:
    match piece:
        case Literal(text):
            return text
        case Value(name):
            return values[name]
        case Time("s"):
            return str((moment - EPOCH) // timedelta(seconds=1))
        case Time("Y"):
            return f"{moment.year:04d}"
        case Time(directive):
            return moment.strftime(f"%{directive}")


def _bounded(segment: str) -> str:
    if len(segment) <= _SEGMENT_CHARS:
        return segment
    return f"{segment[: _SEGMENT_CHARS - 17]}~{hashlib.sha256(segment.encode()).hexdigest()[:16]}"
