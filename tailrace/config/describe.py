"""The reference page of a component or a section, made from its settings model and from nothing else."""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tailrace import registry
from tailrace.config.broker import BrokerSettings
from tailrace.config.pipeline import Sections
from tailrace.units import Duration, Size

SECTIONS: dict[str, type[BaseModel]] = {"pipeline": Sections, "broker": BrokerSettings}
_UNITS = {id(get_args(Size)[1]): "size", id(get_args(Duration)[1]): "duration"}


@dataclass(frozen=True, slots=True)
class FieldLine:
    """One field: its dotted name, its type in words, its default as YAML (empty when it is required)."""

    name: str
    type: str
    default: str
    description: str


def find(name: str, kind: str | None = None) -> list[tuple[registry.Kind, str]]:
    """The components called `name`, of one kind or of any."""
    kinds: tuple[registry.Kind, ...] = ("source", "channel", "sink", "interceptor")
    return [(k, name) for k in kinds if kind in (None, k) and name in registry.types(k)]


def page(kind: registry.Kind, name: str) -> str:
    """Markdown: what the component is, and its fields."""
    model = registry.component(kind, name).Settings
    return f"# {name} {kind}\n\n{_text(model)}\n\n" + table(model)


def section_page(name: str) -> str:
    """Markdown: a section of the pipeline file, one of SECTIONS."""
    model = SECTIONS[name]
    return f"# {name} section\n\n{_text(model)}\n\n" + table(model)


def table(model: type[BaseModel]) -> str:
    """A Markdown table of a model's fields."""
    lines = ["| field | type | default | what it is |", "|---|---|---|---|"]
    for line in fields(model):
        default = f"`{line.default}`" if line.default else "required"
        cells = (f"`{line.name}`", line.type, default, line.description)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[FieldLine]:
    """All fields, those of inner models after the field that holds them."""
    for name, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        default = _default(model, name, field, inner)
        description = field.description or ("Which component this is." if name == "type" else "")
        yield FieldLine(prefix + name, _type(field.annotation, field.metadata), default, description)
        if inner is not None:
            among = {dict: ".<name>.", list: "[]."}.get(get_origin(_bare(field.annotation)), ".")
            yield from fields(inner, f"{prefix}{name}{among}")


def _text(model: type[BaseModel]) -> str:
    lines = (model.__doc__ or "").strip().splitlines()
    return "\n".join(line.strip() for line in lines)


def _default(model: type[BaseModel], name: str, field: FieldInfo, inner: type[BaseModel] | None) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    if inner is not None and value is not None:
        return str(value) if isinstance(value, dict | list) else "{}"
    shown = model.model_construct(**{name: value}).model_dump(mode="json", include={name}, warnings=False)[
        name
    ]
    if shown is None:
        return "null"
    if isinstance(shown, bool):
        return str(shown).lower()
    return str(shown) if not isinstance(shown, str) or shown else '""'


def _bare(annotation: Any) -> Any:
    """Without `| None` and Annotated."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        kept = [a for a in get_args(annotation) if a is not type(None)]
        return _bare(kept[0]) if len(kept) == 1 else annotation
    return annotation


def _model_in(annotation: Any) -> type[BaseModel] | None:
    bare = _bare(annotation)
    if get_origin(bare) in (dict, list):
        bare = _bare(get_args(bare)[-1])
    return bare if isinstance(bare, type) and issubclass(bare, BaseModel) else None


_WORDS = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    type(None): "null",
    Any: "anything",
}


def _type(annotation: Any, metadata: list[Any] | None = None) -> str:
    for unit in (
        *(metadata or ()),
        *(get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()),
    ):
        if id(unit) in _UNITS:
            return _UNITS[id(unit)]
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(args[0])
    if origin is Literal:
        return " or ".join("`'null'`" if choice == "null" else f"`{choice}`" for choice in args)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(a) for a in args)
    if origin is list:
        return f"list of {_type(args[0])}"
    if origin is dict:
        return f"mapping of {_type(args[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return _WORDS.get(annotation, str(getattr(annotation, "__name__", annotation)))
