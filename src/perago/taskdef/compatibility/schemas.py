"""The changes from one JSON Schema to another, each with whom it affected.

The subset is the one that pydantic writes, without references (docs/design/contract.md 3); any other keyword that
differs affected both. A schema accepts what all its keywords accept, so it got narrower only if one of them did.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from perago.taskdef.compare import ABSENT, same_json
from perago.taskdef.compatibility.change import AffectedParty, SchemaChange, affected_by, differ, keyword_changes
from perago.taskdef.compatibility.keywords import (
    ANNOTATIONS,
    SIMPLE_KEYWORDS,
    Schema,
    annotation_changes,
    is_among,
    is_well_formed,
    simple_changes,
    types_of,
    values_of,
)
from perago.taskdef.compatibility.objects import OBJECT_KEYWORDS, object_changes
from perago.taskdef.problems import join_pointer

_UNIONS = ("anyOf", "oneOf")
_NESTED = {"items": "the items", "propertyNames": "the keys", "contentSchema": "the content"}
_KNOWN = SIMPLE_KEYWORDS | OBJECT_KEYWORDS | {*_UNIONS, *_NESTED, "prefixItems"}


@dataclass(frozen=True, slots=True)
class _Alternative:
    """One schema of a union, and the pointer to it."""

    pointer: str
    schema: Schema


def schema_changes(pointer: str, old: Any, new: Any) -> list[SchemaChange]:
    """All changes between two schemas; empty only if both are the same JSON."""
    if same_json(old, new):
        return []
    if old is False or new is False:
        affected = AffectedParty.of(senders=new is False, readers=old is False)
        return [
            SchemaChange(pointer, old, new, affected, "nothing was allowed" if old is False else "nothing is allowed")
        ]
    if old is True or new is True:
        return [_as_one(pointer, old, new, {} if old is True else old, {} if new is True else new, "values")]
    if not (is_well_formed(old) and is_well_formed(new)):
        return [SchemaChange(pointer, old, new, AffectedParty.BOTH, "cannot tell: this is no JSON Schema")]
    return list(_well_formed_changes(pointer, old, new))


def _well_formed_changes(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    before, after = _union_keyword(old), _union_keyword(new)
    if before is None and after is None:
        yield from _keyword_by_keyword(pointer, old, new)
    elif before is not None and after is not None:
        yield from _unions(pointer, old, new, _alternatives(pointer, old), _alternatives(pointer, new))
        yield from _keyword_by_keyword(pointer, _without_unions(old), _without_unions(new))
    else:
        yield from _union_and_single(pointer, old, new)


def _keyword_by_keyword(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    yield from simple_changes(pointer, old, new)
    yield from object_changes(pointer, old, new, schema_changes)
    for keyword, what in _NESTED.items():
        yield from _nested(pointer, old, new, keyword, what)
    yield from _positions(pointer, old, new)
    unknown = sorted({*old, *new} - _KNOWN)
    reason = "cannot tell what this keyword does"
    yield from keyword_changes(pointer, old, new, unknown, AffectedParty.BOTH, reason)


def _nested(pointer: str, old: Schema, new: Schema, keyword: str, what: str) -> Iterator[SchemaChange]:
    """A keyword with one schema; where it is absent, everything is allowed."""
    before, after = old.get(keyword, ABSENT), new.get(keyword, ABSENT)
    here = join_pointer(pointer, keyword)
    if before is ABSENT or after is ABSENT:
        if before is not after:
            yield _as_one(here, before, after, _without(keyword, old), _without(keyword, new), what)
    else:
        yield from schema_changes(here, before, after)


def _positions(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    """The places of a tuple; what stands at none of them is one of `items`."""
    before, after = old.get("prefixItems", []), new.get("prefixItems", [])
    here = join_pointer(pointer, "prefixItems")
    for index in range(max(len(before), len(after))):
        place = join_pointer(here, index)
        if index < min(len(before), len(after)):
            yield from schema_changes(place, before[index], after[index])
        else:
            gone, come = (side[index] if index < len(side) else ABSENT for side in (before, after))
            left = _without("items", old) if gone is ABSENT else gone
            right = _without("items", new) if come is ABSENT else come
            yield _as_one(place, gone, come, left, right, "this place of the list")
    if not before and not after:  # present and empty on one side
        yield from keyword_changes(pointer, old, new, ["prefixItems"], AffectedParty.NEITHER, "accepts the same values")


def _without(keyword: str, schema: Schema) -> Any:
    """What the keyword accepts, be it there or not. No items follow the places of a tuple of a fixed length."""
    ends = keyword == "items" and schema.get("maxItems", math.inf) <= len(schema.get("prefixItems", []))
    return schema.get(keyword, False if ends else {})


def _as_one(pointer: str, old: Any, new: Any, before: Any, after: Any, what: str) -> SchemaChange:
    """A single change for a schema that came or went; `before` and `after` say what is accepted without it."""
    affected = affected_by(schema_changes(pointer, before, after))
    words = {
        AffectedParty.NEITHER: "accepts the same",
        AffectedParty.SENDERS: "narrowed",
        AffectedParty.READERS: "widened",
    }
    return SchemaChange(
        pointer, old, new, affected, f"{what}: {words.get(affected, 'cannot tell which values still fit')}"
    )


def _union_keyword(schema: Schema) -> str | None:
    return next((keyword for keyword in _UNIONS if keyword in schema), None)


def _without_unions(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key not in _UNIONS}


def _without_annotations(schema: Schema) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in ANNOTATIONS}


def _alternatives(pointer: str, schema: Schema) -> list[_Alternative] | None:
    """The alternatives of its one union; None if they cannot be told apart, or if there are two unions."""
    keywords = [keyword for keyword in _UNIONS if keyword in schema]
    if len(keywords) != 1:
        return None
    here = join_pointer(pointer, keywords[0])
    found = [_Alternative(join_pointer(here, index), item) for index, item in enumerate(schema[keywords[0]])]
    if not all(is_well_formed(alternative.schema) for alternative in found):
        return None
    tag = schema.get("discriminator")
    name = tag.get("propertyName") if isinstance(tag, Mapping) else None
    pairs = combinations([alternative.schema for alternative in found], 2)
    is_disjoint = keywords[0] != "oneOf" or all(_exclude_each_other(left, right, name) for left, right in pairs)
    return found if is_disjoint else None


def _unions(
    pointer: str, old: Schema, new: Schema, before: list[_Alternative] | None, after: list[_Alternative] | None
) -> Iterator[SchemaChange]:
    if not differ(old, new, _UNIONS):
        return
    if before is None or after is None:
        reason = "cannot tell: the alternatives may overlap"
        yield from keyword_changes(pointer, old, new, _UNIONS, AffectedParty.BOTH, reason)
        return
    changes = _union_changes(before, after)
    if changes:
        yield from changes
    else:
        yield from keyword_changes(
            pointer, old, new, _UNIONS, AffectedParty.NEITHER, "the same alternatives in another form"
        )


def _union_and_single(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    """One side has alternatives, as with a value that became optional."""
    before, after = _as_alternatives(pointer, old), _as_alternatives(pointer, new)
    if before is None or after is None:
        yield SchemaChange(pointer, old, new, AffectedParty.BOTH, "cannot tell: alternatives beside other keywords")
        return
    same = SchemaChange(pointer, old, new, AffectedParty.NEITHER, "accepts the same values")
    yield from _union_changes(before, after) or [same]
    yield from annotation_changes(pointer, old, new)


def _as_alternatives(pointer: str, schema: Schema) -> list[_Alternative] | None:
    bare = _without_annotations(schema)
    if _union_keyword(schema) is None:
        kinds = bare["type"] if isinstance(bare.get("type"), list) else None
        return [_Alternative(pointer, bare if kinds is None else bare | {"type": kind}) for kind in kinds or [None]]
    return _alternatives(pointer, schema) if len(bare) == 1 else None


def _union_changes(old: list[_Alternative], new: list[_Alternative]) -> list[SchemaChange]:
    """The changes between two lists of alternatives; empty if they accept the same in another order.

    Senders are not affected if every old alternative is contained in a new one, and readers are not if every new one
    is contained in an old one. Alternatives that belong together are compared in depth, so that the change is told
    where it is.
    """
    pairs, gone, come = _paired(old, new)
    changes = [change for left, right in pairs for change in schema_changes(right.pointer, left.schema, right.schema)]
    for left in gone:
        covered = any(AffectedParty.SENDERS not in _affected(left, other) for other in new)
        reason = "alternative removed" + (", but another one accepts the same values" if covered else "")
        affected = AffectedParty.of(senders=not covered, readers=False)
        changes.append(SchemaChange(left.pointer, left.schema, ABSENT, affected, reason))
    for right in come:
        covered = any(AffectedParty.READERS not in _affected(other, right) for other in old)
        reason = "alternative added" + (", but an old one accepts the same values" if covered else "")
        affected = AffectedParty.of(senders=False, readers=not covered)
        changes.append(SchemaChange(right.pointer, ABSENT, right.schema, affected, reason))
    return changes


def _affected(old: _Alternative, new: _Alternative) -> AffectedParty:
    return affected_by(schema_changes(new.pointer, old.schema, new.schema))


def _paired(
    old: list[_Alternative], new: list[_Alternative]
) -> tuple[list[tuple[_Alternative, _Alternative]], list[_Alternative], list[_Alternative]]:
    """Alternatives that belong together, and what is left of both sides."""
    pairs = []
    gone, come = list(old), list(new)
    likenesses: tuple[Callable[[Schema], Any], ...] = (
        lambda schema: json.dumps(_without_annotations(schema), sort_keys=True),
        lambda schema: (_shape(schema), schema.get("title")),
        _shape,
        types_of,
    )
    for likeness in likenesses:
        for left in list(gone):
            match = next((right for right in come if likeness(left.schema) == likeness(right.schema)), None)
            if match is not None:
                pairs.append((left, match))
                gone.remove(left)
                come.remove(match)
    if len(gone) == len(come) == 1:
        pairs.append((gone.pop(), come.pop()))
    return pairs, gone, come


def _shape(schema: Schema) -> Any:
    tags = sorted((name, json.dumps(values, sort_keys=True)) for name, values in _tags(schema))
    return types_of(schema), tags


def _tags(schema: Schema) -> Iterator[tuple[str, list[Any]]]:
    """The properties with listed values."""
    for name, part in schema.get("properties", {}).items():
        values = values_of(part) if is_well_formed(part) else None
        if values is not None:
            yield name, values


def _exclude_each_other(left: Schema, right: Schema, tag: str | None) -> bool:
    """Whether no value fits both: the types differ, or the values of a property that is always there."""
    if not types_of(left) & types_of(right):
        return True
    if types_of(left) != {"object"} or types_of(right) != {"object"}:
        return False
    always = {*left.get("required", ())} & {*right.get("required", ())} | {tag}
    others = dict(_tags(right))
    return any(
        name in always and name in others and not any(is_among(value, others[name]) for value in values)
        for name, values in _tags(left)
    )
