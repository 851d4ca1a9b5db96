"""The TaskDef: the definition of a task in Conductor, and the changes when it replaces the registered one.

Conductor adds defaults and its own fields (`docs/dev/servers/conductor.md`, "TaskDef"). Neither counts as a difference.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from perago.authoring import Task
from perago.authoring.controls import TaskControls
from perago.taskdef.schema import input_schema, join_pointer, output_schema, same_json


def build_task_definition(task: Task) -> dict[str, Any]:
    """Return the TaskDef as JSON. The same module always gives the same JSON, and the caller can change it.

    Raises:
        TaskDefinitionError: a model of the task has no usable JSON Schema.
    """
    definition: dict[str, Any] = json.loads(_built(task))
    return definition


@functools.cache
def _built(task: Task) -> str:
    """Return the TaskDef as cached text, because pydantic needs long for a schema, and a declared task does not
    change."""
    definition = {
        "name": task.name,
        "description": task.description,
        "ownerEmail": task.owner_email,
        **_controls(task.controls),
        "inputKeys": _keys(task, "params"),
        "outputKeys": _keys(task, "result"),
        "inputSchema": schema_definition(f"{task.name}.input", input_schema(task)),
        "outputSchema": schema_definition(f"{task.name}.output", output_schema(task)),
    }
    return json.dumps({key: value for key, value in definition.items() if value is not None}, allow_nan=False)


def canonical_json(definition: Mapping[str, Any]) -> str:
    """Return the canonical text of a TaskDef: two-space indent, sorted keys, LF, final newline, unescaped non-ASCII.

    Keys are sorted, so that a definition that is read from Conductor can be compared line by line.
    """
    return json.dumps(definition, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def workflow_of_one(name: str, task: str, inputs: Iterable[str], reference: str) -> dict[str, Any]:
    """Return the definition of a workflow with one task, which gets these inputs of the workflow as its own."""
    parameters = {key: f"${{workflow.input.{key}}}" for key in inputs}
    step = {"name": task, "taskReferenceName": reference, "type": "SIMPLE", "inputParameters": parameters}
    return {"name": name, "version": 1, "schemaVersion": 2, "tasks": [step]}


def _controls(controls: TaskControls) -> dict[str, Any]:
    retry, timeout, limits = controls.retry, controls.timeout, controls.limits
    return {
        "retryCount": retry.count,
        "retryLogic": retry.logic,
        "retryDelaySeconds": retry.delay_seconds,
        "maxRetryDelaySeconds": retry.max_delay_seconds,
        "backoffJitterMs": retry.jitter_ms,
        "backoffScaleFactor": retry.backoff_scale_factor,
        "timeoutPolicy": timeout.policy,
        "timeoutSeconds": timeout.seconds,
        "responseTimeoutSeconds": controls.response_timeout_seconds,
        "pollTimeoutSeconds": timeout.poll_seconds,
        "totalTimeoutSeconds": timeout.total_seconds,
        "concurrentExecLimit": limits.concurrent_exec_limit,
        "rateLimitPerFrequency": limits.rate_limit_per_frequency,
        "rateLimitFrequencyInSeconds": limits.rate_limit_frequency_in_seconds,
    }


def _keys(task: Task, key: str) -> list[str]:
    return ["workspace", key] if task.workspace is not None else [key]


def schema_definition(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON Schema as Conductor stores it."""
    return {"name": name, "version": 1, "type": "JSON", "data": schema}


# ------------------------------------------------------------------------- differences


class Absent(Enum):
    """The missing side of an added or removed value."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT

SERVER_FIELDS = frozenset({"createTime", "updateTime", "createdBy", "updatedBy", "accessPolicy"})
"""Fields that the server writes into the definition and its schemas. A definition cannot set them."""

SCHEMAS = ("inputSchema", "outputSchema")

SERVER_DEFAULTS: Mapping[str, Any] = {
    "retryCount": 3,
    "retryLogic": "FIXED",
    "retryDelaySeconds": 60,
    "maxRetryDelaySeconds": 0,
    "backoffJitterMs": 0,
    "backoffScaleFactor": 1,
    "timeoutPolicy": "TIME_OUT_WF",
    "timeoutSeconds": 0,
    "responseTimeoutSeconds": 3600,
    "pollTimeoutSeconds": 0,
    "totalTimeoutSeconds": 0,
    "concurrentExecLimit": 0,
    "rateLimitPerFrequency": 0,
    "rateLimitFrequencyInSeconds": 1,
    "taskStatusListenerEnabled": True,
    "enforceSchema": False,
    "inputKeys": [],
    "outputKeys": [],
    "runtimeMetadata": [],
    "inputTemplate": {},
}

_SHOWN = 80
"""The largest number of characters of a value in `Difference.text`."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One change. `path` is a JSON pointer; `old` or `new` is `ABSENT` for something added or removed."""

    path: str
    old: Any
    new: Any

    @property
    def text(self) -> str:
        """The change in one line."""
        if self.old is ABSENT:
            return f"{self.path}: added {_shown(self.new)}"
        if self.new is ABSENT:
            return f"{self.path}: removed {_shown(self.old)}"
        return f"{self.path}: {_shown(self.old)} -> {_shown(self.new)}"


def compare_definitions(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Return what registering `new` over `old` would change, in the order of the pointers."""
    return json_differences(*comparable(old, new))


def comparable(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return both definitions without the fields that a server adds, and without common defaults."""
    before, after = _comparable(old), _comparable(new)
    for key, default in SERVER_DEFAULTS.items():  # a default is shown once the other side deviates from it
        if (key in before) != (key in after):
            before.setdefault(key, default)
            after.setdefault(key, default)
    return before, after


def json_differences(old: Any, new: Any) -> tuple[Difference, ...]:
    """The differences between two JSON values, in the order of the pointers."""
    return tuple(_differences("", old, new))


def _comparable(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the definition without the fields that the server adds."""
    comparable = {}
    for key, value in definition.items():
        is_default = key in SERVER_DEFAULTS and same_json(value, SERVER_DEFAULTS[key])
        if value is None or key in SERVER_FIELDS or is_default:
            continue
        if key in SCHEMAS and isinstance(value, Mapping):
            value = {name: item for name, item in value.items() if name not in SERVER_FIELDS}
        comparable[key] = value
    return comparable


def _differences(path: str, old: Any, new: Any) -> Iterator[Difference]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _differences(join_pointer(path, key), old.get(key, ABSENT), new.get(key, ABSENT))
        return
    are_lists = isinstance(old, list) and isinstance(new, list) and len(old) == len(new)
    if are_lists and all(isinstance(item, Mapping) for item in (*old, *new)):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(join_pointer(path, index), before, after)
    elif not same_json(old, new):
        yield Difference(path, old, new)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


@dataclass(frozen=True, slots=True)
class Declared:
    """A task that a module here declares, with its TaskDef as JSON text."""

    module: str
    name: str
    definition: str
