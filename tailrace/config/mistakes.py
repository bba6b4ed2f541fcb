"""Says what pydantic found, at its place in the file, in the words of someone who writes YAML."""

import difflib
import types
from collections.abc import Iterable, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tailrace.config.load import Document, Path
from tailrace.errors import Mistake

_EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text (a number or a boolean needs quotes around it)",
    "list_type": "a list",
    "dict_type": "a mapping (name: value)",
    "model_type": "a mapping (field: value)",
    "model_attributes_type": "a mapping (field: value)",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
    "literal_error": "{expected}",
    "enum": "{expected}",
}
"""pydantic's error types, and what to say was expected; other types keep pydantic's own text."""


def nearest(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or what there is; empty when there is nothing."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is {', '.join(names)}" if names else ""


def mistakes_of(
    error: ValidationError, document: Document, at: Path, model: type[BaseModel]
) -> list[Mistake]:
    """One for each of pydantic's errors; `at` is where `model` stands in the document."""
    return [_mistake(details, document, at, model) for details in error.errors(include_url=False)]


def _mistake(details: ErrorDetails, document: Document, at: Path, model: type[BaseModel]) -> Mistake:
    kind, loc = details["type"], details["loc"]
    path = at + _path_in_data(loc, _value(document.data, at), kind)
    if kind == "extra_forbidden":
        owner = _model_at(model, path[len(at) : -1])
        fields = owner.model_fields if owner is not None else ()
        return document.mistake(path, f"unknown field{nearest(str(path[-1]), fields)}", at_key=True)
    if kind == "missing":
        owner = _model_at(model, path[len(at) : -1])
        field = owner.model_fields.get(str(path[-1])) if owner is not None else None
        what = f": {field.description}" if field is not None and field.description else ""
        return document.mistake(path, f"is required{what}")
    if kind == "value_error":
        return document.mistake(path, str(details["ctx"]["error"]))
    context: dict[str, Any] = details.get("ctx", {})
    shown = (
        str(context["actual_length"])
        if "actual_length" in context
        else _shown(document, path, details["input"])
    )
    if "[key]" in loc:
        return document.mistake(
            path, f"expected a name that matches {details.get('ctx', {}).get('pattern', '?')}", at_key=True
        )
    if kind in _EXPECTED:
        near = nearest(details["input"], _choices(details)) if isinstance(details["input"], str) else ""
        near = near if "did you mean" in near else ""
        return document.mistake(
            path, f"expected {_EXPECTED[kind].format_map(details.get('ctx', {}))}, not {shown}{near}"
        )
    return document.mistake(path, f"{details['msg']}, not {shown}")


def _choices(details: ErrorDetails) -> list[str]:
    expected = str(details.get("ctx", {}).get("expected", ""))
    return [choice.strip("'") for part in expected.split(", ") for choice in part.split(" or ")]


def _shown(document: Document, path: Path, value: object) -> str:
    """The value as the file has it: what a reference brought in may be a secret."""
    if path in document.references:
        return repr(document.references[path])
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _path_in_data(loc: tuple[int | str, ...], data: Any, kind: str) -> Path:
    """`loc` without what pydantic puts in and the file does not have: names of union members, `[key]`."""
    path: list[int | str] = []
    for i, step in enumerate(loc):
        present = (isinstance(data, Mapping) and step in data) or (
            isinstance(data, list) and isinstance(step, int) and step < len(data)
        )
        if present:
            data = data[step]
            path.append(step)
        elif kind == "missing" and i == len(loc) - 1:
            path.append(step)
    return tuple(path)


def _value(data: Any, path: Path) -> Any:
    for step in path:
        data = data[step]
    return data


def _model_at(model: Any, path: Path) -> type[BaseModel] | None:
    """The model that checks what is at `path` inside a value checked by `model`."""
    for step in path:
        if isinstance(model, type) and issubclass(model, BaseModel):
            field = model.model_fields.get(str(step))
            model = _inner(field.annotation) if field is not None else None
        else:
            model = _inner((get_args(model) or (None,))[-1])
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def _inner(annotation: Any) -> Any:
    """The part of `X | None` that is not None."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next((_inner(a) for a in get_args(annotation) if a is not type(None)), None)
    return annotation
