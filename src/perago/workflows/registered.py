"""The difference between a workflow definition and the one on the server, which fills in defaults of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perago.taskdef import Difference
from perago.taskdef.definition import json_differences

_FREE = frozenset({"inputParameters", "inputTemplate", "outputParameters"})
"""The keys in these are the author's, so one that only the server has is a difference."""


def compare_workflows(registered: Mapping[str, Any], definition: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Return what registering the definition would change, in the order of the JSON pointers.

    Only what the definition says counts: the server adds fields, and their defaults, to a definition and to its tasks.
    """
    return json_differences(_said(registered, definition), definition)


def _said(registered: Any, definition: Any, key: str = "") -> Any:
    """The part of `registered` that `definition` says something about."""
    if key in _FREE:
        return registered
    if isinstance(registered, Mapping) and isinstance(definition, Mapping):
        shared = [name for name in definition if name in registered]
        cases = [name for name in registered if name not in definition] if key == "decisionCases" else []
        return {name: _said(registered[name], definition.get(name), name) for name in (*shared, *cases)}
    if isinstance(registered, list) and isinstance(definition, list) and len(registered) == len(definition):
        return [_said(old, new) for old, new in zip(registered, definition, strict=True)]
    return registered
