"""The TaskDef: what Conductor is told about a task (docs/design/contract.md 3)."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from perago.authoring import Task
from perago.authoring.controls import TaskControls
from perago.taskdef.schema import input_schema, output_schema


def build_task_definition(task: Task) -> dict[str, Any]:
    """The TaskDef as JSON; the same module always gives the same. The caller owns the result.

    Raises:
        TaskDefinitionError: a model of the task has no usable JSON Schema.
    """
    definition: dict[str, Any] = json.loads(_built(task))
    return definition


@functools.cache
def _built(task: Task) -> str:
    """The TaskDef as text, made once: pydantic takes long over a schema, and a declared task does not change."""
    definition = {
        "name": task.name,
        "description": task.description,
        "ownerEmail": task.owner_email,
        **_controls(task.controls),
        "inputKeys": _keys(task, "params"),
        "outputKeys": _keys(task, "result"),
        "inputSchema": _schema_definition(f"{task.name}.input", input_schema(task)),
        "outputSchema": _schema_definition(f"{task.name}.output", output_schema(task)),
    }
    return json.dumps({key: value for key, value in definition.items() if value is not None}, allow_nan=False)


def canonical_json(definition: Mapping[str, Any]) -> str:
    """The one text of a TaskDef: two-space indent, keys sorted, LF, final newline, non-ASCII as it is.

    Sorted, so that a definition read back from Conductor can be compared line by line.
    """
    return json.dumps(definition, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


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


def _schema_definition(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "version": 1, "type": "JSON", "data": schema}
