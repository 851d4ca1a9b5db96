"""Whether the keywords of a schema have values that can be reasoned about.

A snapshot may have been edited by hand, and the schemas of authors' own types are what they make of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_TYPES = frozenset({"null", "boolean", "string", "array", "object", "integer", "number"})


def is_well_formed(schema: Any) -> bool:
    """Whether it is an object, and all keywords that we reason about have values of the right kind.

    Schemas inside are not looked at.
    """
    if not isinstance(schema, Mapping):
        return False
    return all(_CHECKS[keyword](value) for keyword, value in schema.items() if keyword in _CHECKS)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _count(value: Any) -> bool:
    return _number(value) and value >= 0


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _list(value: Any) -> bool:
    return isinstance(value, list)


def _filled_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _type(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(kind, str) and kind in _TYPES for kind in value)
    return isinstance(value, str) and value in _TYPES


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "type": _type,
    "enum": _list,
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _number),
    "multipleOf": _positive,
    **dict.fromkeys((f"{side}{what}" for side in ("min", "max") for what in ("Length", "Items", "Properties")), _count),
    "uniqueItems": _flag,
    **dict.fromkeys(("anyOf", "oneOf", "allOf"), _filled_list),
    "prefixItems": _list,
    **dict.fromkeys(("properties", "patternProperties"), _mapping),
    "required": _names,
}
