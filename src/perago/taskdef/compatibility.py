"""Judge whether a new TaskDef breaks workflows that start the task or use its result.

A change is breaking if a workflow that worked under the old definition may fail under the new one. Direction matters:
parameters are written by workflows and read by the task, so their schema must not get narrower; results are read by
workflows, so theirs must not get wider. A change that cannot be judged counts as breaking.

Keywords that mean something together are judged together: `minimum` with `exclusiveMinimum`, `const` with `enum`.
Malformed values are found first, because snapshots can be edited by hand, and authors' types can write any schema.

This module knows the keywords that pydantic writes, without references. Any other keyword that differs counts as
affecting both parties. A schema gets narrower only if one of its keywords does, because all of them must hold.
"""

from __future__ import annotations

import functools
import json
import math
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Flag, StrEnum, auto
from fractions import Fraction
from itertools import combinations, zip_longest
from typing import Any, TypeAlias

from perago.failure import Finding, Level
from perago.ports import TaskQueue
from perago.taskdef.definition import ABSENT, SCHEMAS, SERVER_DEFAULTS, SERVER_FIELDS, Declared, Difference, comparable
from perago.taskdef.schema import Schema, join_pointer, kind_of, same_json
from perago.text import count, listing, one_line

__all__ = ["Change", "Impact", "classify"]


def classify(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return all changes from `old` to `new`, in the order of their fields. The result is empty only if both are the
    same JSON.

    Neither needs to be a TaskDef that perago would write. Unknown parts count as breaking changes.
    """
    changes: list[Change] = []
    for field in sorted({*old, *new}):
        before, after = old.get(field, ABSENT), new.get(field, ABSENT)
        if same_json(before, after):
            continue
        if field in SCHEMAS:
            changes += _schema_definition(field, before, after)
        else:
            impact, reason = judge_field(field, old, new)
            changes.append(Change(join_pointer("", field), before, after, impact, reason))
    return tuple(changes)


def check_definition(queue: TaskQueue, task: Declared) -> Iterator[Finding]:
    """Compare the TaskDef on the server with that of the module.

    Raises:
        ServiceError: Conductor did not answer.
    """
    registered = queue.get_task_definition(task.name)
    register = f"perago register {task.module}"
    if registered is None:
        why = "Conductor uses its own defaults: 3 retries, and an hour until it notices a dead worker"
        yield Finding(task.name, Level.PROBLEM, "the server has no TaskDef of this name", why, register)
        return
    changes = classify(*comparable(registered, json.loads(task.definition)))
    breaking = [change for change in changes if change.impact is Impact.BREAKING]
    if not changes:
        yield Finding(task.name, Level.OK, "the TaskDef on the server is the same as in the module")
        return
    level = Level.PROBLEM if breaking else Level.WARNING
    shown = listing([one_line(change.difference) for change in breaking or changes], 3)
    what = f"the TaskDef on the server differs in {count(len(changes), 'place')}: {shown}"
    fails = "workflows that were written for one of the two can fail"
    why = fails if breaking else "running workflows are not affected"
    yield Finding(task.name, level, what, why, f"perago diff {task.module}; then perago register {task.module}")


def _schema_definition(field: str, old: Any, new: Any) -> Iterator[Change]:
    """A schema with its name, version and type. Without one, everything is
    valid."""
    pointer = join_pointer("", field)
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        changes_of_data = schema_changes(pointer, _data(old), _data(new))
        affected = affected_by(changes_of_data)
        reason = "a schema was added" if old is ABSENT else "the schema was removed"
        yield _directed(field, SchemaChange(pointer, old, new, affected, reason))
        return
    for key in sorted({*old, *new}):
        before, after = old.get(key, ABSENT), new.get(key, ABSENT)
        if same_json(before, after):
            continue
        if key == "data":
            changes = schema_changes(join_pointer(pointer, key), _data(old), _data(new))
            yield from (_directed(field, change) for change in changes)
        else:
            reason = f"effect unknown, because {key} identifies the schema"
            yield Change(join_pointer(pointer, key), before, after, Impact.BREAKING, reason)


def _data(definition: Any) -> Any:
    if definition is ABSENT:
        return {}
    return definition.get("data", {}) if isinstance(definition, Mapping) else definition


def _directed(field: str, change: SchemaChange) -> Change:
    impact = Impact.BREAKING if change.affected & _MATTERS[field] else Impact.COMPATIBLE
    return Change(change.pointer, change.old, change.new, impact, change.reason)


class Impact(StrEnum):
    """The effect of a change on workflows that are already running."""

    BREAKING = "breaking"
    COMPATIBLE = "compatible"


_FOR_PEOPLE = frozenset({"description", "ownerEmail", "title", "examples", "$comment"})


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `pointer` leads to it in the new definition, or in the old one if it was removed.

    `old` or `new` is `ABSENT` for something added or removed. `reason` is for people.
    """

    pointer: str
    old: Any
    new: Any
    impact: Impact
    reason: str

    @property
    def difference(self) -> str:
        """Say what changed, in one line."""
        return Difference(self.pointer, self.old, self.new).text

    @property
    def text(self) -> str:
        """Return the change and its meaning, in one line."""
        return f"{self.impact}: {self.difference} ({self.reason})"

    @property
    def word(self) -> str:
        """The impact, or `cosmetic` for a text that people read and no workflow does."""
        *above, key = self.pointer.split("/")
        is_annotation = key in _FOR_PEOPLE and above[-1:] != ["properties"]
        return "cosmetic" if is_annotation and self.impact is Impact.COMPATIBLE else str(self.impact)


class AffectedParty(Flag):
    """The parties that can fail because a schema changed.

    Senders write values by the old schema: they are affected if it got narrower. Readers understand values of the old
    schema: they are affected if it got wider.
    """

    NEITHER = 0
    SENDERS = auto()
    READERS = auto()
    BOTH = SENDERS | READERS

    @classmethod
    def of(cls, *, senders: bool, readers: bool) -> AffectedParty:
        """Return the affected parties."""
        return (cls.SENDERS if senders else cls.NEITHER) | (cls.READERS if readers else cls.NEITHER)

    def words(self, neither: str, senders: str, readers: str, both: str) -> str:
        """Return the words for these parties."""
        return (neither, senders, readers, both)[self.value]


_MATTERS = {"inputSchema": AffectedParty.SENDERS, "outputSchema": AffectedParty.READERS}


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A change inside a schema, before it is known whether it describes parameters or results."""

    pointer: str
    old: Any
    new: Any
    affected: AffectedParty
    reason: str


def affected_by(changes: Iterable[SchemaChange]) -> AffectedParty:
    """Return the parties that several changes affect together."""
    return functools.reduce(operator.or_, (change.affected for change in changes), AffectedParty.NEITHER)


def _changed(
    pointer: str, old: Schema, new: Schema, keywords: Iterable[str], affected: AffectedParty, reason: str
) -> Iterator[SchemaChange]:
    """Yield a change for each of these keywords that differs; they are judged together."""
    for keyword in keywords:
        before, after = old.get(keyword, ABSENT), new.get(keyword, ABSENT)
        if not same_json(before, after):
            yield SchemaChange(join_pointer(pointer, keyword), before, after, affected, reason)


def _without(schema: Schema, keywords: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in keywords}


ANNOTATIONS = {
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
"""Keywords that accept or reject no value. A `default` is judged together with the properties."""

_TYPES = {kind: {kind} for kind in ("null", "boolean", "string", "array", "object", "integer")}
_TYPES["number"] = {"integer", "fraction"}
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
_OBJECT = ("properties", "required", "additionalProperties", "patternProperties")
_UNIONS = ("anyOf", "oneOf")
_NESTED = {"items": "the items", "propertyNames": "the keys", "contentSchema": "the content"}
_KNOWN = {
    "type",
    "uniqueItems",
    "prefixItems",
    *ANNOTATIONS,
    *_VALUES,
    *_NUMERIC,
    *_FORMS,
    *_OBJECT,
    *_UNIONS,
    *_NESTED,
}


def _simple_changes(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    """Yield the changes of all keywords that contain no schema and are known here."""
    for keywords, what, narrowed, widened in _judged_keywords(old, new):
        affected = AffectedParty.of(senders=narrowed, readers=widened)
        reason = what + affected.words(
            ": the same in another form", " narrowed", " widened", " changed, and it is unknown which values still fit"
        )
        yield from _changed(pointer, old, new, keywords, affected, reason)


def _judged_keywords(old: Schema, new: Schema) -> Iterator[tuple[Sequence[str], str, bool, bool]]:
    """Yield keywords that are judged together, their effect, and whether the schema got narrower and wider."""
    types, now = types_of(old), types_of(new)
    yield ["type"], "the type", not types <= now, not now <= types
    part, whole = values_of(old), values_of(new)
    yield _VALUES, "the choice of values", not _is_within(part, whole), not _is_within(whole, part)
    for keywords, sign, end in ((_LOWER, 1, "lower"), (_UPPER, -1, "upper")):
        bound, bound_now = _bound(old, keywords, sign), _bound(new, keywords, sign)
        yield keywords, f"the range ({end} end)", bound_now > bound, bound_now < bound
    for suffix, what in _LENGTHS.items():
        for keyword, sign, nothing in ((f"min{suffix}", 1, 0), (f"max{suffix}", -1, math.inf)):
            length, length_now = sign * old.get(keyword, nothing), sign * new.get(keyword, nothing)
            yield [keyword], what, length_now > length, length_now < length
    step, other = old.get("multipleOf"), new.get("multipleOf")
    yield ["multipleOf"], "the step", not _is_multiple(step, other), not _is_multiple(other, step)
    for keyword, what in _FORMS.items():
        yield [keyword], what, keyword in new, keyword in old
    once, once_now = old.get("uniqueItems", False), new.get("uniqueItems", False)
    yield ["uniqueItems"], "the rule for repeated items", once_now and not once, once and not once_now


def types_of(schema: Schema) -> frozenset[str]:
    """The types that the schema accepts; `number` is `integer` and `fraction`."""
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        return frozenset().union(*(_TYPES[kind] for kind in kinds))
    values = values_of(schema)
    return _ALL_TYPES if values is None else frozenset().union(*(_TYPES[kind_of(value)] for value in values))


def values_of(schema: Schema) -> list[Any] | None:
    """The only values that the schema accepts, if it lists them."""
    listed = list(schema["enum"]) if "enum" in schema else None
    if "const" in schema:
        return [schema["const"]] if listed is None or is_among(schema["const"], listed) else []
    return listed


def is_among(value: Any, values: list[Any]) -> bool:
    """Membership of JSON values: 1 is 1.0, but 1 is not true."""
    return any(same_json(value, other) for other in values)


def _is_within(part: list[Any] | None, whole: list[Any] | None) -> bool:
    return whole is None or (part is not None and all(is_among(value, whole) for value in part))


def _bound(schema: Schema, keywords: tuple[str, str], sign: int) -> tuple[float, bool]:
    """Return a sort key for a bound: its value, negated for an upper bound, and whether the bound is exclusive."""
    bounds = [(sign * schema[keyword], keyword == keywords[1]) for keyword in keywords if keyword in schema]
    return max([(-math.inf, False), *bounds])


def _is_multiple(step: float | None, of: float | None) -> bool:
    """Whether all multiples of `step` are multiples of `of`; None is any number."""
    return of is None or (step is not None and (Fraction(str(step)) / Fraction(str(of))).denominator == 1)


def is_well_formed(schema: Any) -> bool:
    """Whether the schema is an object in which all known keywords have values of the right kind.

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


# ------------------------------------------------------------------------------- objects


def _object_changes(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    """Yield the changes of the properties, of the required ones, and of the rule for additional ones."""
    yield from _properties(pointer, old, new)
    required, required_now = set(old.get("required", ())), set(new.get("required", ()))
    added, dropped = sorted(required_now - required), sorted(required - required_now)
    reasons = [f"{', '.join(added)} must be there now"] if added else []
    reasons += [f"{', '.join(dropped)} may be absent now"] if dropped else []
    affected = AffectedParty.of(senders=bool(added), readers=bool(dropped))
    yield from _changed(pointer, old, new, ["required"], affected, "; ".join(reasons) or "the same names")
    yield from _other_properties(pointer, old, new)
    before, after = old.get("patternProperties", {}), new.get("patternProperties", {})
    for pattern in sorted({*before, *after}):
        here = join_pointer(join_pointer(pointer, "patternProperties"), pattern)
        if pattern in before and pattern in after:
            yield from schema_changes(here, before[pattern], after[pattern])
        else:
            was, is_now = before.get(pattern, ABSENT), after.get(pattern, ABSENT)
            yield SchemaChange(here, was, is_now, AffectedParty.BOTH, "effect unknown, because other keys match now")


def _properties(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    before, after = old.get("properties", {}), new.get("properties", {})
    required = {*old.get("required", ()), *new.get("required", ())}
    for name in sorted({*before, *after}):
        here = join_pointer(join_pointer(pointer, "properties"), name)
        if name not in after:
            twins = [other for other in after if other not in before and _same_but_title(before[name], after[other])]
            reason = f"removed; was it renamed to {twins[0]!r}?" if twins else "removed"
            yield SchemaChange(here, before[name], ABSENT, AffectedParty.BOTH, reason)
        elif name not in before:
            yield _added(here, name, old, new)
        else:
            yield from _property(here, before[name], after[name], must_be_sent=name in required)


def _same_but_title(old: Any, new: Any) -> bool:
    return same_json(*(_without(schema, ["title"]) if isinstance(schema, Mapping) else schema for schema in (old, new)))


def _added(here: str, name: str, old: Schema, new: Schema) -> SchemaChange:
    """Judge a new property. In open objects, values that senders happened to send under that name do not count, because
    the task did not read them."""
    added, is_required = new["properties"][name], name in new.get("required", ())
    rest = old.get("additionalProperties", True)
    affected = AffectedParty.of(senders=is_required, readers=rest is False)
    if isinstance(rest, Mapping):
        affected |= affected_by(schema_changes(here, rest, added))
    elif old.get("patternProperties"):
        affected = AffectedParty.BOTH
    reason = "added and required" if is_required else "added, optional"
    return SchemaChange(here, ABSENT, added, affected, reason)


def _property(here: str, old: Any, new: Any, *, must_be_sent: bool) -> Iterator[SchemaChange]:
    """Judge a property on both sides. The task uses its default if nothing is sent."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        yield from schema_changes(here, old, new)
        return
    affected, reason = AffectedParty.SENDERS, "effect unknown: the value that is used if none is sent has changed"
    if must_be_sent:
        affected = AffectedParty.NEITHER
        reason = "the value must be sent, so the default has no effect"
    elif "default" in old and "default" in new:
        reason = "if no value is sent, a different one is used now"
    yield from _changed(here, old, new, ["default"], affected, reason)
    yield from schema_changes(here, _without(old, ["default"]), _without(new, ["default"]))


def _other_properties(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    keyword = "additionalProperties"
    before, after = old.get(keyword, True), new.get(keyword, True)
    changes = schema_changes(join_pointer(pointer, keyword), before, after)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from changes
        return
    affected = affected_by(changes)
    reason = affected.words(
        "the same in another form",
        "other keys are now refused, or must fit a schema",
        "other keys are now allowed",
        "it is unknown which other keys still fit",
    )
    yield from _changed(pointer, old, new, [keyword], affected, reason)


# ------------------------------------------------------------------------- schemas in schemas


def schema_changes(pointer: str, old: Any, new: Any) -> list[SchemaChange]:
    """Return all changes between two schemas; empty only if both are the same JSON."""
    if same_json(old, new):
        return []
    if old is False or new is False:
        affected = AffectedParty.of(senders=new is False, readers=old is False)
        reason = "nothing was allowed" if old is False else "nothing is allowed"
        return [SchemaChange(pointer, old, new, affected, reason)]
    if old is True or new is True:
        return [_as_one(pointer, old, new, {} if old is True else old, {} if new is True else new, "values")]
    if not (is_well_formed(old) and is_well_formed(new)):
        return [
            SchemaChange(pointer, old, new, AffectedParty.BOTH, "effect unknown, because this is not a JSON Schema")
        ]
    if any(key in old for key in _UNIONS) != any(key in new for key in _UNIONS):
        return list(_union_and_single(pointer, old, new))
    rest = _without(old, _UNIONS), _without(new, _UNIONS)
    return [*_unions(pointer, old, new), *_keyword_by_keyword(pointer, *rest)]


def _keyword_by_keyword(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    yield from _simple_changes(pointer, old, new)
    yield from _object_changes(pointer, old, new)
    for keyword, what in _NESTED.items():
        before, after = old.get(keyword, ABSENT), new.get(keyword, ABSENT)
        if before is not ABSENT and after is not ABSENT:
            yield from schema_changes(join_pointer(pointer, keyword), before, after)
        elif before is not after:  # where it is absent, everything is allowed
            sides = _accepted(keyword, old), _accepted(keyword, new)
            yield _as_one(join_pointer(pointer, keyword), before, after, *sides, what)
    places, places_now = old.get("prefixItems", []), new.get("prefixItems", [])
    for index, (removed, added) in enumerate(zip_longest(places, places_now, fillvalue=ABSENT)):
        place = join_pointer(join_pointer(pointer, "prefixItems"), index)
        if removed is not ABSENT and added is not ABSENT:
            yield from schema_changes(place, removed, added)
        else:  # what is at no place of a tuple is one of its items
            left = _accepted("items", old) if removed is ABSENT else removed
            right = _accepted("items", new) if added is ABSENT else added
            yield _as_one(place, removed, added, left, right, "this place of the list")
    empty = [key for key in ("properties", "patternProperties", "prefixItems") if not old.get(key) and not new.get(key)]
    yield from _changed(pointer, old, new, [*sorted(ANNOTATIONS), *empty], AffectedParty.NEITHER, _SAME_VALUES)
    unknown = sorted({*old, *new} - _KNOWN)
    yield from _changed(pointer, old, new, unknown, AffectedParty.BOTH, "effect of this keyword unknown")


_SAME_VALUES = "accepts the same values"


def _accepted(keyword: str, schema: Schema) -> Any:
    """Return the schema for the keyword, or the schema that its absence means. A tuple of a fixed length has no further
    items."""
    ends = keyword == "items" and schema.get("maxItems", math.inf) <= len(schema.get("prefixItems", []))
    return schema.get(keyword, False if ends else {})


def _as_one(pointer: str, old: Any, new: Any, before: Any, after: Any, what: str) -> SchemaChange:
    """Return a single change for an added or removed schema. `before` and `after` say what is accepted without it."""
    affected = affected_by(schema_changes(pointer, before, after))
    effect = affected.words("accepts the same", "narrowed", "widened", "unknown which values still fit")
    return SchemaChange(pointer, old, new, affected, f"{what}: {effect}")


_Alternative: TypeAlias = "tuple[str, Schema]"
"""The pointer to one schema of a union, and the schema."""


def _alternatives(pointer: str, schema: Schema) -> list[_Alternative] | None:
    """Return the alternatives of the only union, or None if they cannot be distinguished, or if there are two
    unions."""
    keyword, *others = [keyword for keyword in _UNIONS if keyword in schema]
    options = schema[keyword]
    if others or not all(map(is_well_formed, options)):
        return None
    tag = schema.get("discriminator")
    name = tag.get("propertyName") if isinstance(tag, Mapping) else None
    if keyword == "oneOf" and not all(_exclude_each_other(*pair, name) for pair in combinations(options, 2)):
        return None
    here = join_pointer(pointer, keyword)
    return [(join_pointer(here, index), option) for index, option in enumerate(options)]


def _unions(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    """Yield the changes of unions on both sides, if there are any."""
    if all(same_json(old.get(keyword), new.get(keyword)) for keyword in _UNIONS):
        return
    before, after = _alternatives(pointer, old), _alternatives(pointer, new)
    if before is None or after is None:
        reason = "effect unknown, because the alternatives may overlap"
        yield from _changed(pointer, old, new, _UNIONS, AffectedParty.BOTH, reason)
        return
    same = _changed(pointer, old, new, _UNIONS, AffectedParty.NEITHER, "the same alternatives in another form")
    yield from _union_changes(before, after) or same


def _union_and_single(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    """One side has alternatives, as with a value that became optional."""

    def alternatives(schema: Schema) -> list[_Alternative] | None:
        bare = _without(schema, ANNOTATIONS)
        if any(keyword in bare for keyword in _UNIONS):
            return _alternatives(pointer, schema) if len(bare) == 1 else None
        kinds = bare["type"] if isinstance(bare.get("type"), list) else [None]
        return [(pointer, bare | ({"type": kind} if kind else {})) for kind in kinds]

    before, after = alternatives(old), alternatives(new)
    if before is None or after is None:
        reason = "effect unknown, because the schema has alternatives and other keywords"
        yield SchemaChange(pointer, old, new, AffectedParty.BOTH, reason)
        return
    same = SchemaChange(pointer, old, new, AffectedParty.NEITHER, _SAME_VALUES)
    yield from _union_changes(before, after) or [same]
    yield from _changed(pointer, old, new, sorted(ANNOTATIONS), AffectedParty.NEITHER, _SAME_VALUES)


def _union_changes(old: list[_Alternative], new: list[_Alternative]) -> list[SchemaChange]:
    """Return the changes between two lists of alternatives. The result is empty if they accept the same in another
    order.

    Senders are not affected if every old alternative is contained in a new one, and readers are not if every new one is
    contained in an old one. Matching alternatives are compared in depth, so that the change is reported at its place.
    """
    pairs, removed, added = _paired(old, new)
    changes = [change for (_, left), (here, right) in pairs for change in schema_changes(here, left, right)]
    for here, left in removed:
        covered = any(AffectedParty.SENDERS not in affected_by(schema_changes("", left, other)) for _, other in new)
        reason = "alternative removed" + (", but another one accepts the same values" if covered else "")
        affected = AffectedParty.of(senders=not covered, readers=False)
        changes.append(SchemaChange(here, left, ABSENT, affected, reason))
    for here, right in added:
        covered = any(AffectedParty.READERS not in affected_by(schema_changes("", other, right)) for _, other in old)
        reason = "alternative added" + (", but an old one accepts the same values" if covered else "")
        affected = AffectedParty.of(senders=False, readers=not covered)
        changes.append(SchemaChange(here, ABSENT, right, affected, reason))
    return changes


def _paired(
    old: list[_Alternative], new: list[_Alternative]
) -> tuple[list[tuple[_Alternative, _Alternative]], list[_Alternative], list[_Alternative]]:
    """Pair matching alternatives, and return the unmatched ones of both sides."""
    pairs = []
    removed, added = list(old), list(new)
    likenesses: tuple[Callable[[Schema], Any], ...] = (
        lambda schema: json.dumps(_without(schema, ANNOTATIONS), sort_keys=True),
        lambda schema: (_shape(schema), schema.get("title")),
        _shape,
        types_of,
    )
    for likeness in likenesses:
        for left in list(removed):
            match = next((right for right in added if likeness(left[1]) == likeness(right[1])), None)
            if match is not None:
                pairs.append((left, match))
                removed.remove(left)
                added.remove(match)
    if len(removed) == len(added) == 1:
        pairs.append((removed.pop(), added.pop()))
    return pairs, removed, added


def _shape(schema: Schema) -> Any:
    return types_of(schema), sorted((name, json.dumps(values, sort_keys=True)) for name, values in _tags(schema))


def _tags(schema: Schema) -> Iterator[tuple[str, list[Any]]]:
    """Return the properties with listed values."""
    for name, part in schema.get("properties", {}).items():
        values = values_of(part) if is_well_formed(part) else None
        if values is not None:
            yield name, values


def _exclude_each_other(left: Schema, right: Schema, tag: str | None) -> bool:
    """Whether no value fits both, because the types differ or the values of a required property differ."""
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


Verdict: TypeAlias = tuple[Impact, str]
Definition: TypeAlias = Mapping[str, Any]

_LABELS = frozenset({"description", "ownerEmail", "ownerApp"})
_RATE = ("rateLimitPerFrequency", "rateLimitFrequencyInSeconds")
_DELAYS = frozenset({"retryDelaySeconds", "maxRetryDelaySeconds", "backoffScaleFactor"})
_MILDER_POLICIES = frozenset({("TIME_OUT_WF", "RETRY"), ("TIME_OUT_WF", "ALERT_ONLY")})
"""The policies, mildest first. A change from RETRY to ALERT_ONLY is not milder, because a hanging attempt is no longer
retried."""


_SHORTER = ("an outage may outlast shorter retry delays", "longer retry delays")
_AMOUNTS: Mapping[str, tuple[str, str]] = {
    "retryCount": ("fewer retries", "more retries"),
    "retryDelaySeconds": _SHORTER,
    "maxRetryDelaySeconds": _SHORTER,
    "backoffScaleFactor": _SHORTER,
    "timeoutSeconds": ("an attempt has less time", "an attempt has more time"),
    "responseTimeoutSeconds": ("a worker may be silent for less time", "a worker may be silent longer"),
    "pollTimeoutSeconds": ("an attempt may wait less for a worker", "an attempt may wait longer"),
    "totalTimeoutSeconds": ("all attempts together have less time", "all attempts have more time"),
    "concurrentExecLimit": ("fewer attempts at the same time, so some wait", "more attempts at a time"),
}
"""Fields whose decrease can break workflows and whose increase is safe, with the words for both."""
_ZERO_IS_LESS = frozenset({"retryCount", "retryDelaySeconds", "backoffScaleFactor"})
"""The numbers for which 0 does not mean "no limit"."""


def judge_field(field: str, old: Definition, new: Definition) -> Verdict:
    """Judge a difference of the two definitions in `field`."""
    before, after = _effective(field, old), _effective(field, new)
    if field in SERVER_FIELDS:
        return Impact.COMPATIBLE, "written by the server"
    if field in _LABELS:
        return Impact.COMPATIBLE, "for people only"
    if field in SERVER_DEFAULTS and same_json(before, after):
        return Impact.COMPATIBLE, "the same as the default of the server"
    if field in _AMOUNTS:
        return _amount(field, before, after, new)
    if field in _RATE:
        return _rate(old, new)
    match field:
        case "name":
            return Impact.BREAKING, "another task type: running workflows still ask for the old one"
        case "retryLogic":
            return Impact.BREAKING, "unknown, because the retry delays differ"
        case "backoffJitterMs":
            return Impact.COMPATIBLE, "retry delays are spread differently"
        case "timeoutPolicy":
            if isinstance(before, str) and isinstance(after, str) and (before, after) in _MILDER_POLICIES:
                return Impact.COMPATIBLE, "a timeout no longer ends the workflow"
            return Impact.BREAKING, "a timeout has another effect"
        case "inputKeys":
            return _keys(before, after, "input key", added=Impact.BREAKING)
        case "outputKeys":
            return _keys(before, after, "output key", added=Impact.COMPATIBLE)
    return _unknown_effect(field)


def _unknown_effect(field: str) -> Verdict:
    return Impact.BREAKING, f"effect of a change of {field} unknown"


def _effective(field: str, definition: Definition) -> Any:
    value = definition.get(field)
    return SERVER_DEFAULTS.get(field) if value is None else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _amount(field: str, old: Any, new: Any, definition: Definition) -> Verdict:
    if not (_is_number(old) and _is_number(new)):
        return _unknown_effect(field)
    less, more = _AMOUNTS[field]
    if field not in _ZERO_IS_LESS:
        old, new = (float("inf") if value == 0 else value for value in (old, new))
    if new < old:
        return Impact.BREAKING, less
    if field in _DELAYS and not same_json(_effective("totalTimeoutSeconds", definition), 0):
        return Impact.BREAKING, f"{more}, which may use up totalTimeoutSeconds"
    return Impact.COMPATIBLE, more


def _rate(old: Definition, new: Definition) -> Verdict:
    """Judge the two fields of one rate. 0 means no limit."""
    values = [_effective(field, definition) for definition in (old, new) for field in _RATE]
    if not all(_is_number(value) and 0 <= value < float("inf") for value in values) or 0 in values[1::2]:
        return _unknown_effect("the rate limit")
    before, after = (Fraction(values[index]) / Fraction(values[index + 1]) for index in (0, 2))
    if after == 0 or (before != 0 and after >= before):
        return Impact.COMPATIBLE, "attempts are handed out at the same rate or faster"
    return Impact.BREAKING, "attempts are handed out more slowly"


def _keys(old: Any, new: Any, what: str, *, added: Impact) -> Verdict:
    if not all(isinstance(keys, list) and all(isinstance(key, str) for key in keys) for keys in (old, new)):
        return _unknown_effect(f"an {what}")
    removed, added_keys = sorted({*old} - {*new}), sorted({*new} - {*old})
    if removed:
        return Impact.BREAKING, f"removed {what} {', '.join(removed)}"
    if added_keys:
        return added, f"added {what} {', '.join(added_keys)}"
    return Impact.COMPATIBLE, "the same keys"
