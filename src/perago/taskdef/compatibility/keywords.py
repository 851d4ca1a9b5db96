"""What a change of one keyword of a JSON Schema does to the set of values it accepts.

Keywords that mean something together are judged together: `minimum` with `exclusiveMinimum`, `const` with `enum`.
Values that make no sense are found first: a snapshot may have been edited by hand, and the schemas of authors' own
types are what they make of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, TypeAlias

from perago.taskdef.compare import same_json
from perago.taskdef.compatibility.change import AffectedParty, SchemaChange, differ, keyword_changes

Schema: TypeAlias = Mapping[str, Any]

ANNOTATIONS = frozenset(
    {
        "$comment",
        "$id",
        "$schema",
        "default",
        "deprecated",
        "description",
        "discriminator",
        "examples",
        "readOnly",
        "title",
        "writeOnly",
    }
)
"""They accept or reject nothing. What a `default` means is judged where properties are."""

_TYPES = {
    "null": {"null"},
    "boolean": {"boolean"},
    "string": {"string"},
    "array": {"array"},
    "object": {"object"},
    "integer": {"integer"},
    "number": {"integer", "fraction"},
}
_ALL_TYPES = frozenset().union(*_TYPES.values())
_VALUES = ("const", "enum")
_LOWER, _UPPER = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
_LENGTHS = {"Length": "the length", "Items": "the number of items", "Properties": "the number of keys"}
_FORMS = {
    "pattern": "the pattern",
    "format": "the format",
    "contentEncoding": "the encoding",
    "contentMediaType": "the media type",
}


def simple_changes(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    """The changes of all keywords that contain no schema and are known here."""
    yield from keyword_changes(pointer, old, new, sorted(ANNOTATIONS), AffectedParty.NEITHER, "accepts the same values")
    yield from _types(pointer, old, new)
    yield from _values(pointer, old, new)
    for keywords, sign in ((_LOWER, 1), (_UPPER, -1)):
        yield from _bounds(pointer, old, new, keywords, sign)
    for suffix, what in _LENGTHS.items():
        yield from _lengths(pointer, old, new, suffix, what)
    yield from _steps(pointer, old, new)
    for keyword, what in _FORMS.items():
        yield from _form(pointer, old, new, keyword, what)
    yield from _unique(pointer, old, new)


def simple_keywords() -> frozenset[str]:
    """The keywords that `simple_changes` understands."""
    lengths = {f"{side}{suffix}" for suffix in _LENGTHS for side in ("min", "max")}
    return frozenset({"type", "multipleOf", "uniqueItems", *ANNOTATIONS, *_VALUES, *_LOWER, *_UPPER, *lengths, *_FORMS})


def types_of(schema: Schema) -> frozenset[str]:
    """The types that the schema accepts; `number` is `integer` and `fraction`."""
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        return frozenset().union(*(_TYPES[kind] for kind in kinds))
    values = values_of(schema)
    return _ALL_TYPES if values is None else frozenset().union(*(_TYPES[_type_of(value)] for value in values))


def values_of(schema: Schema) -> list[Any] | None:
    """The only values that the schema accepts, if it lists them."""
    listed = list(schema["enum"]) if "enum" in schema else None
    if "const" in schema:
        return [schema["const"]] if listed is None or is_among(schema["const"], listed) else []
    return listed


def is_among(value: Any, values: list[Any]) -> bool:
    """Membership of JSON values: 1 is 1.0, but 1 is not true."""
    return any(same_json(value, other) for other in values)


def _type_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _words(affected: AffectedParty, what: str) -> str:
    """`narrowed`: fewer values are accepted."""
    match affected:
        case AffectedParty.NEITHER:
            return f"{what}: the same in another form"
        case AffectedParty.SENDERS:
            return f"{what} narrowed"
        case AffectedParty.READERS:
            return f"{what} widened"
    return f"{what} changed: cannot tell which values still fit"


def _types(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    before, after = types_of(old), types_of(new)
    affected = AffectedParty.of(senders=not before <= after, readers=not after <= before)
    yield from keyword_changes(pointer, old, new, ["type"], affected, _words(affected, "the type"))


def _values(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    if not differ(old, new, _VALUES):
        return
    before, after = values_of(old), values_of(new)
    affected = AffectedParty.of(senders=not _is_within(before, after), readers=not _is_within(after, before))
    yield from keyword_changes(pointer, old, new, _VALUES, affected, _words(affected, "the choice of values"))


def _is_within(part: list[Any] | None, whole: list[Any] | None) -> bool:
    if whole is None:
        return True
    return part is not None and all(is_among(value, whole) for value in part)


def _bounds(pointer: str, old: Schema, new: Schema, keywords: tuple[str, str], sign: int) -> Iterator[SchemaChange]:
    before, after = _bound(old, keywords, sign), _bound(new, keywords, sign)
    affected = AffectedParty.of(senders=after > before, readers=after < before)
    what = f"the range ({'lower' if sign > 0 else 'upper'} end)"
    yield from keyword_changes(pointer, old, new, keywords, affected, _words(affected, what))


def _bound(schema: Schema, keywords: tuple[str, str], sign: int) -> tuple[float, bool]:
    """How much is cut off: the bound, upside down for an upper one, and whether it is cut off itself."""
    inclusive, exclusive = keywords
    candidates = [(-math.inf, False)]
    if inclusive in schema:
        candidates.append((sign * schema[inclusive], False))
    if exclusive in schema:
        candidates.append((sign * schema[exclusive], True))
    return max(candidates)


def _lengths(pointer: str, old: Schema, new: Schema, suffix: str, what: str) -> Iterator[SchemaChange]:
    for keyword, sign, nothing in ((f"min{suffix}", 1, 0), (f"max{suffix}", -1, math.inf)):
        before, after = sign * old.get(keyword, nothing), sign * new.get(keyword, nothing)
        affected = AffectedParty.of(senders=after > before, readers=after < before)
        yield from keyword_changes(pointer, old, new, [keyword], affected, _words(affected, what))


def _steps(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    if not differ(old, new, ["multipleOf"]):
        return
    before, after = old.get("multipleOf"), new.get("multipleOf")
    affected = AffectedParty.of(senders=not _is_multiple(before, after), readers=not _is_multiple(after, before))
    yield from keyword_changes(pointer, old, new, ["multipleOf"], affected, _words(affected, "the step"))


def _is_multiple(step: float | None, of: float | None) -> bool:
    """Whether all multiples of `step` are multiples of `of`; None is any number."""
    if of is None:
        return True
    return step is not None and (Fraction(str(step)) / Fraction(str(of))).denominator == 1


def _form(pointer: str, old: Schema, new: Schema, keyword: str, what: str) -> Iterator[SchemaChange]:
    affected = AffectedParty.of(senders=keyword in new, readers=keyword in old)
    yield from keyword_changes(pointer, old, new, [keyword], affected, _words(affected, what))


def _unique(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    before, after = old.get("uniqueItems", False), new.get("uniqueItems", False)
    affected = AffectedParty.of(senders=after and not before, readers=before and not after)
    yield from keyword_changes(
        pointer, old, new, ["uniqueItems"], affected, _words(affected, "the rule for repeated items")
    )


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
