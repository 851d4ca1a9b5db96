"""What a new TaskDef means for workflows that are already running with the old one.

A change is breaking if a workflow that worked under the old definition may fail under the new one. Direction matters:
parameters are written by workflows and read by the task, so their schema must not get narrower; results are read by
workflows, so theirs must not get wider. What cannot be judged is breaking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perago.taskdef.compare import ABSENT, SCHEMAS, same_json
from perago.taskdef.compatibility.change import AffectedParty, Change, Impact, SchemaChange, affected_by
from perago.taskdef.compatibility.controls import judge_field
from perago.taskdef.compatibility.schemas import schema_changes
from perago.taskdef.problems import join_pointer

__all__ = ["Change", "Impact", "classify"]

_MATTERS = {"inputSchema": AffectedParty.SENDERS, "outputSchema": AffectedParty.READERS}


def classify(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Change, ...]:
    """All changes from `old` to `new`, in the order of their fields; empty only if both are the same JSON.

    Neither needs to be a TaskDef that perago would write: what is not understood is a breaking change.
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


def _schema_definition(field: str, old: Any, new: Any) -> Iterator[Change]:
    """A schema with its name, version and type (docs/design/contract.md 3). Where there is none, everything is
    valid."""
    pointer = join_pointer("", field)
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        found = schema_changes(pointer, _data(old), _data(new))
        affected = affected_by(found)
        reason = "there is a schema now" if old is ABSENT else "there is no schema any more"
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
            reason = f"cannot tell: {key} says which schema this is, and how it is read"
            yield Change(join_pointer(pointer, key), before, after, Impact.BREAKING, reason)


def _data(definition: Any) -> Any:
    if definition is ABSENT:
        return {}
    return definition.get("data", {}) if isinstance(definition, Mapping) else definition


def _directed(field: str, change: SchemaChange) -> Change:
    impact = Impact.BREAKING if change.affected & _MATTERS[field] else Impact.COMPATIBLE
    return Change(change.pointer, change.old, change.new, impact, change.reason)
