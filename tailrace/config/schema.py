"""The JSON Schema of pipeline files, for editors: the sections, and every component type installed."""

from typing import Any

from tailrace import registry
from tailrace.config.pipeline import KINDS, Sections

_REF = "#/$defs/{model}"


def pipeline_schema() -> dict[str, Any]:
    """JSON Schema (2020-12). A component is checked by the model that its `type` names."""
    schema = Sections.model_json_schema(ref_template=_REF)
    definitions = schema.setdefault("$defs", {})
    agent = definitions["AgentSections"]["properties"]
    for kind in KINDS:
        choices: list[dict[str, Any]] = []
        for name in registry.types(kind):
            try:
                model = registry.component(kind, name).Settings
            except ImportError:
                continue  # a third party's that is broken, or lacks a package: editors do without it
            own = model.model_json_schema(ref_template=_REF)
            definitions |= own.pop("$defs", {})
            definitions[f"{kind}.{name}"] = own
            choices.append(
                {
                    "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                    "then": {"$ref": _REF.format(model=f"{kind}.{name}")},
                }
            )
        names = [choice["if"]["properties"]["type"]["const"] for choice in choices]
        one = {
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"enum": names}},
            "allOf": choices,
        }
        agent[f"{kind}s"]["additionalProperties"] = one
        agent[f"{kind}s"].pop("patternProperties", None)
        agent[f"{kind}s"]["propertyNames"] = {"pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
