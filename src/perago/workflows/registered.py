"""The difference between a workflow definition and the one on the server, which fills in defaults of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from perago.taskdef.compatibility import Change, Impact, classify, judge_field
from perago.taskdef.definition import SCHEMAS, json_differences

_FREE = frozenset({"inputParameters", "inputTemplate", "outputParameters", "data"})
"""The keys in these are the author's, so one that only the server has is a difference."""
_OF_A_SCHEMA = {"inputParameters": "inputSchema", "inputTemplate": "inputSchema", "outputParameters": "outputSchema"}
"""The schema that says what a field means for those who start a workflow or read its output."""
_OPTIONAL = {"description": None, "optional": False, "permissive": False, "retryCount": None, "startDelay": 0}
"""Fields that a definition can leave out, with the value that the server then has."""


class Definitions(Protocol):
    """The questions to Conductor. Each method can raise any `ServiceError`."""

    def workflow_versions(self, name: str) -> Sequence[int]:
        """Return the registered versions of a workflow, the oldest first."""
        ...

    def workflow_definition(self, name: str, version: int) -> Mapping[str, Any]:
        """Return one version of a workflow."""
        ...


def compare_with_server(
    definitions: Definitions, definition: Mapping[str, Any]
) -> tuple[int | None, tuple[Change, ...]]:
    """Return the changes to the same version on the server, or to its newest version, and the number of that version.

    Raises:
        ServiceError: Conductor did not answer.
    """
    name, version = definition["name"], definition["version"]
    known = definitions.workflow_versions(name)
    if not known:
        return None, ()
    base = version if version in known else known[-1]
    return base, classify_workflows(definitions.workflow_definition(name, base), definition)


def classify_workflows(registered: Mapping[str, Any], definition: Mapping[str, Any]) -> tuple[Change, ...]:
    """Return the changes and their effect on those who start the workflow or read its output.

    The server adds fields, and their defaults, to a definition and to its tasks. Such fields do not count.
    The version does not count, so that a new version can be compared with an older one.
    """
    old = {**_said(registered, definition), "version": definition.get("version")}
    schemas = [{key: side[key] for key in SCHEMAS if key in side} for side in (old, definition)]
    changes = list(classify(*schemas))
    for difference in json_differences(old, definition):
        field = difference.path.split("/")[1]
        if field in SCHEMAS:
            continue
        schema = _OF_A_SCHEMA.get(field)
        if field == "tasks":
            impact, reason = Impact.COMPATIBLE, "running workflows keep the steps that they started with"
        elif schema is not None and all(schema in side for side in schemas):
            impact, reason = Impact.COMPATIBLE, f"{schema} says what it means for others"
        else:
            impact, reason = judge_field(field, old, definition)
        changes.append(Change(difference.path, difference.old, difference.new, impact, reason))
    return tuple(sorted(changes, key=lambda change: change.pointer))


def _said(registered: Any, definition: Any, key: str = "") -> Any:
    """The part of `registered` that `definition` says something about."""
    if key in _FREE:
        return registered
    if isinstance(registered, Mapping) and isinstance(definition, Mapping):
        shared = [name for name in registered if name in definition or key == "decisionCases"]
        absent = ((name, value) for name, value in _OPTIONAL.items() if name not in shared)
        removed = [name for name, value in absent if registered.get(name) not in (None, value)]
        return {name: _said(registered[name], definition.get(name), name) for name in (*shared, *removed)}
    if isinstance(registered, list) and isinstance(definition, list) and len(registered) == len(definition):
        return [_said(old, new) for old, new in zip(registered, definition, strict=True)]
    return registered
