"""The line that starts a workflow, to be pasted into a shell."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from perago.console import links
from perago.console.links import Link, link
from perago.console.models import Models
from perago.console.text import Shown, block
from perago.embedded.lakefs.errors import LakeFSError

_SHOWN_TYPES = 10
_DEPTH_LIMIT = 6
_INPUT = re.compile(r"\$\{workflow\.input\.([A-Za-z0-9_]+)")
_PLAIN: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False, "array": [], "object": {}}


@dataclass(frozen=True, slots=True)
class StartLine:
    """One workflow type and the shell line."""

    type: Link
    command: Shown


def start_lines(models: Models, base_url: str) -> tuple[StartLine, ...]:
    """For the newest version of each of the first ten workflow types."""
    newest = {definition["name"]: definition for definition in models.conductor.workflow_definitions()}
    return tuple(_start_line(models, base_url, newest[name]) for name in list(newest)[:_SHOWN_TYPES])


def _start_line(models: Models, base_url: str, definition: Mapping[str, Any]) -> StartLine:
    name, version = definition["name"], definition["version"]
    payload = json.dumps(_payload(models, definition), ensure_ascii=False)
    url = f"{base_url}/api/workflow/{quote(name, safe='', errors='replace')}"
    command = (
        f"curl -sS -X POST {shlex.quote(url)} \\\n  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(payload)}"
    )
    return StartLine(link(f"{name} v{version}", links.workflow_type(name, version)), block(command))


def _payload(models: Models, definition: Mapping[str, Any]) -> dict[str, Any]:
    """A value for every `${workflow.input.…}` of the definition: the head of the first repository for `workspace`,
    else what the schema of the task that takes it asks for."""
    names = list(dict.fromkeys([*definition.get("inputParameters", ()), *_inputs_named(definition)]))
    workspace = _workspace(models)
    return {
        name: workspace if name == "workspace" and workspace else _sample(_schema(models, definition, name))
        for name in names
        if isinstance(name, str)
    }


def _inputs_named(definition: Mapping[str, Any]) -> Iterator[str]:
    return (match[1] for match in _INPUT.finditer(json.dumps(definition.get("tasks", []))))


def _workspace(models: Models) -> dict[str, str] | None:
    for info in models.lakefs.list_repositories(amount=1).results:
        with contextlib.suppress(LakeFSError):  # a bare repository has no branch
            head = models.lakefs.get_branch(info.name, info.default_branch).commit_id
            return {"repository": info.name, "branch": info.default_branch, "ref_type": "commit", "ref": head}
    return None


def _schema(models: Models, definition: Mapping[str, Any], name: str) -> Any:
    for task in definition.get("tasks", []):
        for key, value in task.get("inputParameters", {}).items():
            if value == f"${{workflow.input.{name}}}":
                task_definition = models.conductor.get_task_definition(task["name"]) or {}
                schema = (task_definition.get("inputSchema") or {}).get("data") or {}
                return (schema.get("properties") or {}).get(key)
    return None


def _sample(schema: Any, depth: int = 0) -> Any:
    """A value of the right shape, required members only."""
    if not isinstance(schema, Mapping) or depth > _DEPTH_LIMIT:
        return {} if depth == 0 else None
    if "default" in schema:
        return schema["default"]
    for choices in ("enum", "examples"):
        if isinstance(schema.get(choices), list) and schema[choices]:
            return schema[choices][0]
    if isinstance(schema.get("anyOf"), list) and schema["anyOf"]:
        return _sample(schema["anyOf"][0], depth + 1)
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        return {key: _sample(properties.get(key), depth + 1) for key in schema.get("required", ())}
    return _PLAIN.get(str(schema.get("type")))
