"""A value that a JSON Schema would accept, or nearly: something to start from when there is no example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perago.taskdef.schema_check import schema_problem

_FORMATS = {
    "uri": "https://example.com/",
    "email": "name@example.com",
    "date": "2026-01-31",
    "date-time": "2026-01-31T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT1H",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uuid4": "00000000-0000-4000-8000-000000000000",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "ipvanyaddress": "127.0.0.1",
}
"""Something of each format that pydantic's types have."""


def skeleton_of(schema: Mapping[str, Any]) -> Any:
    """What stands for `schema`: its default or first choice, else the smallest value of its type.

    Of an object only what is required. References are inlined already (docs/design/contract.md 3). Patterns, and
    formats that are not in `_FORMATS`, are left to the person who fills it in.
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
        return _FORMATS.get(schema.get("format", ""), "x" * schema.get("minLength", 0))
    if kind in ("integer", "number"):
        return _number(schema)
    return False if kind == "boolean" else None


def _number(schema: Mapping[str, Any]) -> Any:
    """0, or the nearest to it of the numbers near the bounds that is within all of them."""
    low = schema.get("exclusiveMinimum", schema.get("minimum"))
    high = schema.get("exclusiveMaximum", schema.get("maximum"))
    step = schema.get("multipleOf", 1 if schema["type"] == "integer" else None)
    found = [0]
    if low is not None and high is not None and step is None:
        found += [low, high, (low + high) / 2]
    for bound in (low, high):
        if bound is not None:
            nearest = bound if step is None else round(bound / step) * step
            found += [nearest, nearest + (step or 1), nearest - (step or 1)]
    bounds = {key: value for key, value in schema.items() if key != "multipleOf"}
    return min((number for number in found if schema_problem(bounds, number) is None), key=abs, default=0)
