"""A value that a JSON Schema would accept, or nearly: something to start from when there is no example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def skeleton_of(schema: Mapping[str, Any]) -> Any:
    """What stands for `schema`: its default or first choice, else the smallest value of its type.

    Of an object only what is required. References are inlined already (contract 3). Patterns and formats are left to
    the person who fills it in.
    """
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    for key in ("examples", "enum"):
        if schema.get(key):
            return schema[key][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return skeleton_of(schema[key][0])
    return _of_type(schema)


def _of_type(schema: Mapping[str, Any]) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "null")
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: skeleton_of(properties.get(name, {})) for name in schema.get("required", ())}
    if kind == "array":
        items = schema.get("prefixItems") or [schema.get("items", {})] * schema.get("minItems", 0)
        return [skeleton_of(item) for item in items]
    if kind == "string":
        return "x" * schema.get("minLength", 0)
    if kind in ("integer", "number"):
        return _number(schema)
    return False if kind == "boolean" else None


def _number(schema: Mapping[str, Any]) -> Any:
    """0, or the bound that is nearest to it."""
    lowest, highest = schema.get("minimum", 0), schema.get("maximum", 0)
    if "exclusiveMinimum" in schema:
        lowest = schema["exclusiveMinimum"] + 1
    if "exclusiveMaximum" in schema:
        highest = schema["exclusiveMaximum"] - 1
    return lowest if lowest > 0 else min(highest, 0)
