"""Reads one YAML file: plain data (dicts, lists, text, numbers, booleans, null) and where each value stands.

YAML 1.2: `yes`, `no` and `on` are text. Duplicate keys and unknown tags are refused, aliases cannot grow
without bound. `${env:NAME}` is replaced only inside scalars, after parsing: a value never becomes structure.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tailrace.config.replace import Unreplaceable, replace_references
from tailrace.errors import ConfigError, Mistake, TailraceError

MAX_FILE = 1 << 20
"""Bytes a configuration file may have."""
MAX_VALUES = 50_000
"""Values it may hold once its aliases are followed."""

Path = tuple[str | int, ...]
"""Keys and indices from the top of the file to a value."""


@dataclass(slots=True)
class Document:
    """One file: its data, and for messages where its keys and values begin (line and column from 1)."""

    file: str
    data: Any
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    values: dict[Path, tuple[int, int]] = field(default_factory=dict)
    references: dict[Path, str] = field(default_factory=dict)
    """Text as it stands in the file, of values that held a reference: messages show this, not the secret."""

    def mistake(self, path: Path, text: str, *, at_key: bool = False) -> Mistake:
        """At `path`, or at the nearest thing around it that the file has."""
        places = self.keys if at_key else self.values
        for end in range(len(path), -1, -1):
            if (place := places.get(path[:end]) or self.values.get(path[:end])) is not None:
                return Mistake(self.file, *place, f"{dotted(path)}: {text}" if path else text)
        return Mistake(self.file, 1, 1, f"{dotted(path)}: {text}" if path else text)


def dotted(path: Path) -> str:
    """`agents.land.sources.logs.topics[0]`"""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")


def load(file: str, environ: Mapping[str, str] = os.environ) -> Document:
    """The file's document. ConfigError with all that is wrong with it as YAML, or as references."""
    try:
        with open(file, "rb") as stream:
            raw = stream.read(MAX_FILE + 1)
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError([Mistake(file, 1, 1, f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise ConfigError([Mistake(file, line, column, "expected UTF-8 text")]) from None
    if len(raw) > MAX_FILE:
        raise ConfigError([Mistake(file, 1, 1, f"larger than {MAX_FILE} bytes: not a configuration file")])
    return parse(text, file, environ)


def parse(text: str, file: str, environ: Mapping[str, str] = os.environ) -> Document:
    """As load(), for text that is already read."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(filter(None, (error.context, error.problem)))
        if mark is not None and mark.buffer is not None and mark.buffer[: mark.pointer].endswith("$"):
            said += " (inside { } or [ ] a ${reference} needs quotes around it)"
        raise ConfigError(
            [Mistake(file, mark.line + 1, mark.column + 1, said) if mark else Mistake(file, 1, 1, said)]
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            [Mistake(file, line, 1, f"a character YAML does not allow: {error.reason}")]
        ) from None
    except RecursionError:
        raise ConfigError([Mistake(file, 1, 1, "nested too deeply")]) from None
    builder = _Builder(Document(file, None), environ)
    try:
        if root is not None:
            builder.document.data = builder.build(root, (), ())
    except _Refused:
        pass
    except RecursionError:
        raise ConfigError([Mistake(file, 1, 1, "nested too deeply")]) from None
    if builder.mistakes:
        raise ConfigError(builder.mistakes)
    return builder.document


class _Loader(yaml.SafeLoader):
    """Finds the types of plain scalars by the core schema of YAML 1.2 (section 10.3.2)."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own class attribute, made new here


_TAG = "tag:yaml.org,2002:"
_MAP, _SEQ, _TEXT = _TAG + "map", _TAG + "seq", _TAG + "str"
_NULL, _BOOL, _INT, _FLOAT = _TAG + "null", _TAG + "bool", _TAG + "int", _TAG + "float"
_NUMBER = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
for _tag, _pattern, _first in (
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (_FLOAT, _NUMBER + r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _first)

_SCALARS: dict[str, Callable[[str], Any]] = {
    _NULL: lambda _: None,
    _BOOL: lambda text: text.lower() == "true",
    _INT: lambda text: int(text, 0) if text[:2] in ("0o", "0x") else int(text),
    _FLOAT: lambda text: float(re.sub(r"\.(?=[inIN])", "", text)),
    _TEXT: str,
}


class _Refused(TailraceError):
    """The document as a whole: nothing more is looked at."""


class _Builder:
    """Turns PyYAML's nodes into data, and writes down where everything stands."""

    def __init__(self, document: Document, environ: Mapping[str, str]) -> None:
        self.document = document
        self.mistakes: list[Mistake] = []
        self._environ = environ
        self._left = MAX_VALUES

    def build(self, node: yaml.Node, path: Path, parents: tuple[int, ...]) -> Any:
        self.document.values[path] = _place(node)
        self._enter(node, parents)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        inside = (*parents, id(node))
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQ:
            return [self.build(item, (*path, i), inside) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
            data = {}
            for key, item in self._entries(node, inside):
                self.document.keys[*path, key.value] = _place(key)
                data[key.value] = self.build(item, (*path, key.value), inside)
            return data
        return self._wrong(node, f"the tag {node.tag!r} is not allowed")

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        if node.tag not in _SCALARS:
            return self._wrong(node, f"the tag {node.tag!r} is not allowed")
        try:
            value = _SCALARS[node.tag](node.value)
            if isinstance(value, str) and "${" in value:
                self.document.references[path] = value
                value = replace_references(value, self._environ)
        except Unreplaceable as error:
            return self._wrong(node, f"{dotted(path)}: {error}")
        except ValueError:
            return self._wrong(
                node, f"{dotted(path)}: {node.value[:40]!r} is not a {node.tag.removeprefix(_TAG)}"
            )
        return value

    def _entries(
        self, node: yaml.MappingNode, parents: tuple[int, ...]
    ) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        """The entries of a mapping; those that `<<` brings in come last, and never replace its own."""
        merged: list[tuple[yaml.Node, yaml.Node]] = []
        own: dict[str, yaml.Node] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._wrong(key, "expected a name before the colon, not a list or a mapping")
            elif key.value == "<<" and key.style is None:
                merged += self._merge(item, parents)
            elif (first := own.get(key.value)) is not None:
                self._wrong(key, f"{key.value!r} is here twice: first on line {first.start_mark.line + 1}")
            else:
                own[key.value] = key
                yield key, item
        for key, item in merged:
            if isinstance(key, yaml.ScalarNode) and key.value not in own:
                own[key.value] = key
                yield key, item

    def _merge(self, node: yaml.Node, parents: tuple[int, ...]) -> list[tuple[yaml.Node, yaml.Node]]:
        self._enter(node, parents)
        if isinstance(node, yaml.MappingNode):
            return list(self._entries(node, (*parents, id(node))))
        if isinstance(node, yaml.SequenceNode):
            return [entry for item in node.value for entry in self._merge(item, (*parents, id(node)))]
        self._wrong(node, "expected an alias to a mapping after <<")
        return []

    def _enter(self, node: yaml.Node, parents: tuple[int, ...]) -> None:
        self._left -= 1
        if self._left < 0:
            self._refuse(node, f"with its aliases it has more than {MAX_VALUES} values")
        if id(node) in parents:
            self._refuse(node, "an alias to something around itself")

    def _wrong(self, node: yaml.Node, text: str) -> None:
        self.mistakes.append(Mistake(self.document.file, *_place(node), text))

    def _refuse(self, node: yaml.Node, text: str) -> None:
        self._wrong(node, text)
        raise _Refused


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
