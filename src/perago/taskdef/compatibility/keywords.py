"""What a change of one keyword of a JSON Schema does to the set of values it accepts.

Keywords that mean something together are judged together: `minimum` with `exclusiveMinimum`, `const` with `enum`.
Values that make no sense are found first: a snapshot may have been edited by hand, and the schemas of authors' own
types are what they make of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
_NUMERIC = {*_LOWER, *_UPPER, "multipleOf", *(f"{side}{suffix}" for suffix in _LENGTHS for side in ("min", "max"))}
SIMPLE_KEYWORDS = frozenset({"type", "uniqueItems", *ANNOTATIONS, *_VALUES, *_NUMERIC, *_FORMS})
"""The keywords that `simple_changes` understands."""


def simple_changes(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    """Yield the changes of all keywords that contain no schema and are known here."""

    def judge(keywords: Sequence[str], what: str, *, narrowed: bool, widened: bool) -> Iterator[SchemaChange]:
        affected = AffectedParty.of(senders=narrowed, readers=widened)
        return keyword_changes(pointer, old, new, keywords, affected, _words(affected, what))

    yield from annotation_changes(pointer, old, new)
    before, after = types_of(old), types_of(new)
    yield from judge(["type"], "the type", narrowed=not before <= after, widened=not after <= before)
    if differ(old, new, _VALUES):
        part, whole = values_of(old), values_of(new)
        narrowed, widened = not _is_within(part, whole), not _is_within(whole, part)
        yield from judge(_VALUES, "the choice of values", narrowed=narrowed, widened=widened)
    for keywords, sign, end in ((_LOWER, 1, "lower"), (_UPPER, -1, "upper")):
        least, now = _bound(old, keywords, sign), _bound(new, keywords, sign)
        yield from judge(keywords, f"the range ({end} end)", narrowed=now > least, widened=now < least)
    for suffix, what in _LENGTHS.items():
        for keyword, sign, nothing in ((f"min{suffix}", 1, 0), (f"max{suffix}", -1, math.inf)):
            least, now = sign * old.get(keyword, nothing), sign * new.get(keyword, nothing)
            yield from judge([keyword], what, narrowed=now > least, widened=now < least)
    if differ(old, new, ["multipleOf"]):
        step, other = old.get("multipleOf"), new.get("multipleOf")
        narrowed, widened = not _is_multiple(step, other), not _is_multiple(other, step)
        yield from judge(["multipleOf"], "the step", narrowed=narrowed, widened=widened)
    for keyword, what in _FORMS.items():
        yield from judge([keyword], what, narrowed=keyword in new, widened=keyword in old)
    was_unique, is_unique = old.get("uniqueItems", False), new.get("uniqueItems", False)
    narrowed, widened = is_unique and not was_unique, was_unique and not is_unique
    yield from judge(["uniqueItems"], "the rule for repeated items", narrowed=narrowed, widened=widened)


def annotation_changes(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    """Yield the changes of keywords that accept or reject nothing."""
    yield from keyword_changes(pointer, old, new, sorted(ANNOTATIONS), AffectedParty.NEITHER, "accepts the same values")


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
    """Say how a rule changed; `narrowed` means that fewer values are accepted."""
    words = {
        AffectedParty.NEITHER: ": the same in another form",
        AffectedParty.SENDERS: " narrowed",
        AffectedParty.READERS: " widened",
    }
    return what + words.get(affected, " changed: cannot tell which values still fit")


def _is_within(part: list[Any] | None, whole: list[Any] | None) -> bool:
    if whole is None:
        return True
    return part is not None and all(is_among(value, whole) for value in part)


def _bound(schema: Schema, keywords: tuple[str, str], sign: int) -> tuple[float, bool]:
    """How much is cut off: the bound, upside down for an upper one, and whether it is cut off itself."""
    inclusive, exclusive = keywords
    candidates = [(-math.inf, False)]
    if inclusive in schema:
        candidates.append((sign * schema[inclusive], False))
    if exclusive in schema:
        candidates.append((sign * schema[exclusive], True))
    return max(candidates)


def _is_multiple(step: float | None, of: float | None) -> bool:
    """Whether all multiples of `step` are multiples of `of`; None is any number."""
    if of is None:
        return True
    return step is not None and (Fraction(str(step)) / Fraction(str(of))).denominator == 1


def is_well_formed(schema: Any) -> bool:
    """Whether it is an object, and all keywords that we reason about have values of the right kind.

    Schemas inside are not checked.
    """
    return isinstance(schema, Mapping) and all(_is_usable(keyword, value) for keyword, value in schema.items())


def _is_usable(keyword: str, value: Any) -> bool:
    match keyword:
        case "type":
            kinds = value if isinstance(value, list) else [value]
            return bool(kinds) and all(isinstance(kind, str) and kind in _TYPES for kind in kinds)
        case "enum" | "prefixItems":
            return isinstance(value, list)
        case "anyOf" | "oneOf" | "allOf":
            return isinstance(value, list) and bool(value)
        case "required":
            return isinstance(value, list) and all(isinstance(name, str) for name in value)
        case "properties" | "patternProperties":
            return isinstance(value, Mapping)
        case "uniqueItems":
            return isinstance(value, bool)
    if keyword not in _NUMERIC:
        return True
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
    is_bound = keyword in (*_LOWER, *_UPPER)
    return is_number and (is_bound or value > 0 or (value == 0 and keyword != "multipleOf"))
