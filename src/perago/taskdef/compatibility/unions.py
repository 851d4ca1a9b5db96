"""Alternatives: `anyOf`, and `oneOf` where no value can fit two of them.

Senders are not affected if every old alternative is contained in a new one, and readers are not if every new one is
contained in an old one. Alternatives that belong together are compared in depth, so that the change is told where
it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from perago.taskdef.compare import ABSENT
from perago.taskdef.compatibility.change import AffectedParty, SchemaChange
from perago.taskdef.compatibility.keywords import ANNOTATIONS, Schema, is_among, types_of, values_of
from perago.taskdef.compatibility.objects import Compare
from perago.taskdef.compatibility.wellformed import is_well_formed
from perago.taskdef.pointer import join_pointer

UNIONS = ("anyOf", "oneOf")


@dataclass(frozen=True, slots=True)
class Alternative:
    """One schema of several, and the pointer to it."""

    pointer: str
    schema: Schema


def alternatives(pointer: str, schema: Schema, keyword: str) -> list[Alternative]:
    """The alternatives of a union."""
    here = join_pointer(pointer, keyword)
    return [Alternative(join_pointer(here, index), item) for index, item in enumerate(schema[keyword])]


def are_disjoint(schemas: list[Schema], tag: str | None) -> bool:
    """Whether no value fits two of these schemas: other types, or other values of a property that is always there."""
    return all(_exclude_each_other(left, right, tag) for left, right in combinations(schemas, 2))


def union_changes(old: list[Alternative], new: list[Alternative], compare: Compare) -> list[SchemaChange]:
    """The changes between two lists of alternatives; empty if they accept the same in another order."""
    pairs, gone, come = _paired(old, new)
    changes = [change for left, right in pairs for change in compare(right.pointer, left.schema, right.schema)]
    for left in gone:
        covered = any(not _affected(compare, left, other).senders for other in new)
        reason = "alternative removed" + (", but another one accepts the same values" if covered else "")
        affected = AffectedParty.of(senders=not covered, readers=False)
        changes.append(SchemaChange(left.pointer, left.schema, ABSENT, affected, reason))
    for right in come:
        covered = any(not _affected(compare, other, right).readers for other in old)
        reason = "alternative added" + (", but an old one accepts the same values" if covered else "")
        affected = AffectedParty.of(senders=False, readers=not covered)
        changes.append(SchemaChange(right.pointer, ABSENT, right.schema, affected, reason))
    return changes


def _affected(compare: Compare, old: Alternative, new: Alternative) -> AffectedParty:
    return AffectedParty.of_all(change.affected for change in compare(new.pointer, old.schema, new.schema))


def _paired(
    old: list[Alternative], new: list[Alternative]
) -> tuple[list[tuple[Alternative, Alternative]], list[Alternative], list[Alternative]]:
    """Alternatives that belong together, and what is left of both sides."""
    pairs = []
    gone, come = list(old), list(new)
    for likeness in (_canonical, _shape_and_title, _shape, _types):
        for left in list(gone):
            match = next((right for right in come if likeness(left.schema) == likeness(right.schema)), None)
            if match is not None:
                pairs.append((left, match))
                gone.remove(left)
                come.remove(match)
    if len(gone) == len(come) == 1:
        pairs.append((gone.pop(), come.pop()))
    return pairs, gone, come


def _canonical(schema: Schema) -> Any:
    return json.dumps({key: value for key, value in schema.items() if key not in ANNOTATIONS}, sort_keys=True)


def _shape_and_title(schema: Schema) -> Any:
    return _shape(schema), schema.get("title")


def _shape(schema: Schema) -> Any:
    tags = sorted((name, json.dumps(values, sort_keys=True)) for name, values in _tags(schema))
    return _types(schema), tags


def _types(schema: Schema) -> Any:
    return types_of(schema)


def _tags(schema: Schema) -> Iterator[tuple[str, list[Any]]]:
    """The properties with listed values."""
    for name, part in schema.get("properties", {}).items():
        values = values_of(part) if is_well_formed(part) else None
        if values is not None:
            yield name, values


def _exclude_each_other(left: Schema, right: Schema, tag: str | None) -> bool:
    if not types_of(left) & types_of(right):
        return True
    others = dict(_tags(right))
    return any(
        name in others
        and _is_always_there(name, left, tag)
        and _is_always_there(name, right, tag)
        and not any(is_among(value, others[name]) for value in values)
        for name, values in _tags(left)
    )


def _is_always_there(name: str, schema: Schema, tag: str | None) -> bool:
    is_object = types_of(schema) == {"object"}
    return is_object and (name == tag or name in schema.get("required", ()))
