"""The changes from one JSON Schema to another, each with whom it affected.

The subset is the one that pydantic writes, without references (docs/design/contract.md 3); any other keyword that
differs affected both. A schema accepts what all its keywords accept, so it got narrower only if one of them did.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from perago.taskdef.compare import ABSENT, same_json
from perago.taskdef.compatibility.change import AffectedParty, SchemaChange, differ, keyword_changes
from perago.taskdef.compatibility.keywords import ANNOTATIONS, Schema, simple_changes, simple_keywords
from perago.taskdef.compatibility.objects import OBJECT_KEYWORDS, object_changes
from perago.taskdef.compatibility.unions import UNIONS, Alternative, alternatives, are_disjoint, union_changes
from perago.taskdef.compatibility.wellformed import is_well_formed
from perago.taskdef.pointer import join_pointer

_NESTED = {"items": "the items", "propertyNames": "the keys", "contentSchema": "the content"}
_KNOWN = simple_keywords() | OBJECT_KEYWORDS | {*UNIONS, *_NESTED, "prefixItems"}


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
    affected = AffectedParty.of_all(change.affected for change in schema_changes(pointer, before, after))
    words = {
        AffectedParty.NEITHER: "accepts the same",
        AffectedParty.SENDERS: "narrowed",
        AffectedParty.READERS: "widened",
    }
    return SchemaChange(
        pointer, old, new, affected, f"{what}: {words.get(affected, 'cannot tell which values still fit')}"
    )


def _union_keyword(schema: Schema) -> str | None:
    return next((keyword for keyword in UNIONS if keyword in schema), None)


def _without_unions(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key not in UNIONS}


def _annotations(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key in ANNOTATIONS}


def _alternatives(pointer: str, schema: Schema) -> list[Alternative] | None:
    """The alternatives of its one union; None if they cannot be told apart, or if there are two unions."""
    keywords = [keyword for keyword in UNIONS if keyword in schema]
    if len(keywords) != 1:
        return None
    found = alternatives(pointer, schema, keywords[0])
    if not all(is_well_formed(alternative.schema) for alternative in found):
        return None
    tag = schema.get("discriminator")
    name = tag.get("propertyName") if isinstance(tag, Mapping) else None
    if keywords[0] == "oneOf" and not are_disjoint([alternative.schema for alternative in found], name):
        return None
    return found


def _unions(
    pointer: str, old: Schema, new: Schema, before: list[Alternative] | None, after: list[Alternative] | None
) -> Iterator[SchemaChange]:
    if not differ(old, new, UNIONS):
        return
    if before is None or after is None:
        reason = "cannot tell: the alternatives may overlap"
        yield from keyword_changes(pointer, old, new, UNIONS, AffectedParty.BOTH, reason)
        return
    changes = union_changes(before, after, schema_changes)
    if changes:
        yield from changes
    else:
        yield from keyword_changes(
            pointer, old, new, UNIONS, AffectedParty.NEITHER, "the same alternatives in another form"
        )


def _union_and_single(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    """One side has alternatives, as with a value that became optional."""
    before, after = _as_alternatives(pointer, old), _as_alternatives(pointer, new)
    if before is None or after is None:
        yield SchemaChange(pointer, old, new, AffectedParty.BOTH, "cannot tell: alternatives beside other keywords")
        return
    same = SchemaChange(pointer, old, new, AffectedParty.NEITHER, "accepts the same values")
    yield from union_changes(before, after, schema_changes) or [same]
    yield from simple_changes(pointer, _annotations(old), _annotations(new))


def _as_alternatives(pointer: str, schema: Schema) -> list[Alternative] | None:
    bare = {key: value for key, value in schema.items() if key not in ANNOTATIONS}
    if _union_keyword(schema) is None:
        kinds = bare["type"] if isinstance(bare.get("type"), list) else None
        return [Alternative(pointer, bare if kinds is None else bare | {"type": kind}) for kind in kinds or [None]]
    return _alternatives(pointer, schema) if len(bare) == 1 else None
