"""Objects: which properties there are, which must be there, and what else may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from perago.taskdef.compare import ABSENT, same_json
from perago.taskdef.compatibility.change import AffectedParty, SchemaChange, affected_by, keyword_changes
from perago.taskdef.compatibility.keywords import Schema
from perago.taskdef.problems import join_pointer

Compare: TypeAlias = Callable[[str, Any, Any], list[SchemaChange]]

OBJECT_KEYWORDS = frozenset({"properties", "required", "additionalProperties", "patternProperties"})


def object_changes(pointer: str, old: Schema, new: Schema, compare: Compare) -> Iterator[SchemaChange]:
    """The changes of the keywords of objects.

    Args:
        pointer: The JSON pointer to the schema.
        old: The schema as it was.
        new: The schema as it is.
        compare: Compares the schemas inside.
    """
    yield from _properties(pointer, old, new, compare)
    yield from _required(pointer, old, new)
    yield from _other_properties(pointer, old, new, compare)
    yield from _patterns(pointer, old, new, compare)
    for keyword in ("properties", "patternProperties", "required"):
        if not old.get(keyword) and not new.get(keyword):  # present and empty on one side
            yield from keyword_changes(pointer, old, new, [keyword], AffectedParty.NEITHER, "accepts the same values")


def _properties(pointer: str, old: Schema, new: Schema, compare: Compare) -> Iterator[SchemaChange]:
    before, after = old.get("properties", {}), new.get("properties", {})
    for name in sorted({*before, *after}):
        here = join_pointer(join_pointer(pointer, "properties"), name)
        if name not in after:
            yield SchemaChange(here, before[name], ABSENT, AffectedParty.BOTH, _removed(name, before, after))
        elif name not in before:
            yield _added(here, name, old, new, compare)
        else:
            must_be_sent = name in old.get("required", ()) or name in new.get("required", ())
            yield from _property(here, before[name], after[name], compare, must_be_sent=must_be_sent)


def _removed(name: str, before: Schema, after: Schema) -> str:
    twins = [other for other in after if other not in before and _same_but_title(before[name], after[other])]
    return f"removed; was it renamed to {twins[0]!r}?" if twins else "removed"


def _same_but_title(old: Any, new: Any) -> bool:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        old, new = ({key: value for key, value in side.items() if key != "title"} for side in (old, new))
    return same_json(old, new)


def _added(here: str, name: str, old: Schema, new: Schema, compare: Compare) -> SchemaChange:
    """A property that is new. Where objects are open, what senders happened to send under that name is not
    counted: the task did not read it."""
    added = new["properties"][name]
    rest = old.get("additionalProperties", True)
    affected = AffectedParty.of(senders=name in new.get("required", ()), readers=rest is False)
    if isinstance(rest, Mapping):
        affected |= affected_by(compare(here, rest, added))
    elif old.get("patternProperties"):
        affected = AffectedParty.BOTH
    reason = "added and required" if name in new.get("required", ()) else "added, optional"
    return SchemaChange(here, ABSENT, added, affected, reason)


def _property(here: str, old: Any, new: Any, compare: Compare, *, must_be_sent: bool) -> Iterator[SchemaChange]:
    """A property on both sides. Its default is what the task takes when nothing is sent."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        yield from compare(here, old, new)
        return
    if must_be_sent:
        affected, reason = (
            AffectedParty.NEITHER,
            "the value has to be sent, before or now, so the default changes nothing",
        )
    elif "default" in old and "default" in new:
        affected, reason = AffectedParty.SENDERS, "where nothing is sent, the task now takes another value"
    else:
        affected, reason = AffectedParty.SENDERS, "cannot tell which value the task takes where nothing is sent"
    yield from keyword_changes(here, old, new, ["default"], affected, reason)
    yield from compare(here, *({key: value for key, value in side.items() if key != "default"} for side in (old, new)))


def _required(pointer: str, old: Schema, new: Schema) -> Iterator[SchemaChange]:
    before, after = old.get("required", []), new.get("required", [])
    come, gone = sorted({*after} - {*before}), sorted({*before} - {*after})
    if not before and not after:
        return
    affected = AffectedParty.of(senders=bool(come), readers=bool(gone))
    words = [f"{', '.join(come)} must be there now"] if come else []
    words += [f"{', '.join(gone)} may be absent now"] if gone else []
    reason = "; ".join(words) or "the same names"
    yield from keyword_changes(pointer, old, new, ["required"], affected, reason)


def _other_properties(pointer: str, old: Schema, new: Schema, compare: Compare) -> Iterator[SchemaChange]:
    keyword = "additionalProperties"
    before, after = old.get(keyword, True), new.get(keyword, True)
    here = join_pointer(pointer, keyword)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from compare(here, before, after)
        return
    affected = affected_by(compare(here, before, after))
    reasons = {
        AffectedParty.NEITHER: "the same in another form",
        AffectedParty.SENDERS: "other keys are refused, or must fit a schema now",
        AffectedParty.READERS: "other keys may come now",
    }
    reason = reasons.get(affected, "cannot tell which other keys still fit")
    yield from keyword_changes(pointer, old, new, [keyword], affected, reason)


def _patterns(pointer: str, old: Schema, new: Schema, compare: Compare) -> Iterator[SchemaChange]:
    before, after = old.get("patternProperties", {}), new.get("patternProperties", {})
    for pattern in sorted({*before, *after}):
        here = join_pointer(join_pointer(pointer, "patternProperties"), pattern)
        if pattern in before and pattern in after:
            yield from compare(here, before[pattern], after[pattern])
        else:
            reason = "cannot tell: other keys match now"
            yield SchemaChange(
                here, before.get(pattern, ABSENT), after.get(pattern, ABSENT), AffectedParty.BOTH, reason
            )
