"""Reference pages and the JSON Schema, made from the declarations."""

import json
from typing import Literal

import pytest
from pydantic import Field

from tailrace import registry
from tailrace.component import Settings
from tailrace.config.describe import fields, find, page
from tailrace.config.pipeline import KINDS
from tailrace.config.schema import pipeline_schema
from tailrace.units import Duration, Size


class Inner(Settings):
    size: Size = Field(default=128 * 2**20, description="Bytes.")


class Example(Settings):
    type: Literal["example"]
    wait: Duration = Field(default=90.0, description="How long.")
    names: list[str] = Field(description="Some names.")
    mode: Literal["a", "b"] = Field(default="a", description="Which.")
    maybe: Size | None = Field(default=None, description="Perhaps.")
    flag: bool = Field(default=True, description="Whether.")
    text: str = Field(default="", description="A text.")
    inner: Inner = Field(default_factory=Inner, description="More.")
    many: dict[str, Inner] = Field(default_factory=dict, description="Many.")
    listed: list[Inner] = Field(default_factory=list, description="In a row.")


def test_fields_have_types_in_words_and_defaults_as_they_are_written() -> None:
    assert [(f.name, f.type, f.default) for f in fields(Example)] == [
        ("type", "`example`", ""),
        ("wait", "duration", "90s"),
        ("names", "list of text", ""),
        ("mode", "`a` or `b`", "a"),
        ("maybe", "size or null", "null"),
        ("flag", "true or false", "true"),
        ("text", "text", '""'),
        ("inner", "section", "{}"),
        ("inner.size", "size", "128MiB"),
        ("many", "mapping of section", "{}"),
        ("many.<name>.size", "size", "128MiB"),
        ("listed", "list of section", "[]"),
        ("listed[].size", "size", "128MiB"),
    ]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in registry.types(kind)])
def test_every_component_has_a_page_and_every_field_a_description(kind: registry.Kind, name: str) -> None:
    model = registry.component(kind, name).Settings
    text = page(kind, name)
    assert text.startswith(f"# {name} {kind}\n\n") and model.__doc__
    undescribed = [f.name for f in fields(model) if not f.description]
    assert undescribed == []


def test_a_name_may_be_of_several_kinds() -> None:
    assert find("kafka") == [("source", "kafka"), ("sink", "kafka")]
    assert find("kafka", "sink") == [("sink", "kafka")]
    assert find("nothing") == []


def test_the_schema_has_a_definition_for_everything_it_refers_to() -> None:
    schema = pipeline_schema()
    text = json.dumps(schema)
    for part in text.split('"$ref": "')[1:]:
        assert part.split('"')[0].removeprefix("#/$defs/") in schema["$defs"]
    for kind in KINDS:
        for name in registry.types(kind):
            assert f"{kind}.{name}" in schema["$defs"]
