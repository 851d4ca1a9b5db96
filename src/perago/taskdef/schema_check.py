"""Whether a JSON document obeys a JSON Schema of the subset that pydantic writes, without references.

`format` says nothing here, as in the standard; keywords that pydantic does not write are passed over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from perago.taskdef.compare import same_json
from perago.taskdef.problems import join_pointer

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "boolean": bool,
    "null": type(None),
    "array": list,
    "object": dict,
}
_KINDS = ("boolean", "null", "string", "integer", "number", "array", "object")


def schema_problem(schema: Mapping[str, Any], document: Any, pointer: str = "") -> str | None:
    """The first thing that the schema rejects, as a JSON pointer and a reason; None if it accepts the document."""
    return next(schema_problems(schema, document, pointer), None)


def schema_problems(schema: Mapping[str, Any], value: Any, pointer: str = "") -> Iterator[str]:
    """All that the schema rejects, each with its JSON pointer in front."""
    where = pointer or "/"
    if "const" in schema and not same_json(value, schema["const"]):
        yield f"{where}: must be {schema['const']!r}"
    if "enum" in schema and not any(same_json(value, option) for option in schema["enum"]):
        yield f"{where}: is none of {', '.join(map(repr, schema['enum']))}"
    kinds = schema.get("type", [])
    wanted: list[str] = kinds if isinstance(kinds, list) else [kinds]
    if wanted and not any(_is(kind, value) for kind in wanted):
        found = next((kind for kind in _KINDS if _is(kind, value)), type(value).__name__)
        yield f"{where}: must be {' or '.join(wanted)}, but is {found}"
        return
    for part in schema.get("allOf", ()):
        yield from schema_problems(part, value, pointer)
    yield from _alternatives(schema, value, pointer)
    match value:
        case bool() | None:
            return
        case int() | float():
            yield from _number(schema, value, where)
        case str():
            yield from _length(schema, "Length", len(value), where)
            if "pattern" in schema and re.search(schema["pattern"], value) is None:
                yield f"{where}: does not match {schema['pattern']}"
        case list():
            yield from _array(schema, value, pointer)
        case dict():
            yield from _object(schema, value, pointer)


def _alternatives(schema: Mapping[str, Any], value: Any, pointer: str) -> Iterator[str]:
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        if not options:
            continue
        found = [schema_problem(option, value, pointer) for option in options]
        accepted = found.count(None)
        if accepted == 0:
            yield f"{pointer or '/'}: fits none of the alternatives ({'; '.join(filter(None, found))})"
        elif key == "oneOf" and accepted > 1:
            yield f"{pointer or '/'}: fits {accepted} alternatives, but must fit exactly one"


def _number(schema: Mapping[str, Any], value: float, where: str) -> Iterator[str]:
    if value < schema.get("minimum", -math.inf):
        yield f"{where}: is less than {schema['minimum']}"
    if value > schema.get("maximum", math.inf):
        yield f"{where}: is more than {schema['maximum']}"
    if value <= schema.get("exclusiveMinimum", -math.inf) and "exclusiveMinimum" in schema:
        yield f"{where}: is not more than {schema['exclusiveMinimum']}"
    if value >= schema.get("exclusiveMaximum", math.inf) and "exclusiveMaximum" in schema:
        yield f"{where}: is not less than {schema['exclusiveMaximum']}"
    step = schema.get("multipleOf")
    if step and not math.isclose(value / step, round(value / step), rel_tol=1e-9, abs_tol=1e-9):
        yield f"{where}: is no multiple of {step}"


def _array(schema: Mapping[str, Any], value: list[Any], pointer: str) -> Iterator[str]:
    yield from _length(schema, "Items", len(value), pointer or "/")
    first = schema.get("prefixItems", ())
    rest = schema.get("items")
    for index, item in enumerate(value):
        part = first[index] if index < len(first) else rest
        if isinstance(part, Mapping):
            yield from schema_problems(part, item, join_pointer(pointer, index))
    if schema.get("uniqueItems") and any(same_json(a, b) for index, a in enumerate(value) for b in value[:index]):
        yield f"{pointer or '/'}: has an item twice"


def _object(schema: Mapping[str, Any], value: dict[str, Any], pointer: str) -> Iterator[str]:
    yield from _length(schema, "Properties", len(value), pointer or "/")
    known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{join_pointer(pointer, name)}: is missing"
    for name, item in value.items():
        here = join_pointer(pointer, name)
        if "propertyNames" in schema:
            yield from schema_problems(schema["propertyNames"], name, here)
        patterns = [part for regex, part in schema.get("patternProperties", {}).items() if re.search(regex, name)]
        if name in known:
            yield from schema_problems(known[name], item, here)
        elif not patterns and rest is False:
            yield f"{here}: is unknown"
        elif not patterns and isinstance(rest, Mapping):
            yield from schema_problems(rest, item, here)
        for part in patterns:
            yield from schema_problems(part, item, here)


def _length(schema: Mapping[str, Any], what: str, length: int, where: str) -> Iterator[str]:
    least, most = schema.get(f"min{what}", 0), schema.get(f"max{what}", math.inf)
    if not least <= length <= most:
        yield f"{where}: has {length} {what.lower()}, allowed are {least} to {most}"


def _is(kind: str, value: Any) -> bool:
    if kind == "integer":
        return isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, _TYPES[kind])
