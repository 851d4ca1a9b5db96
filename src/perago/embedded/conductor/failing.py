"""The workflow that is started when another one fails (`failureWorkflow`), and what it is told."""

from __future__ import annotations

from typing import Any

from perago.embedded.conductor.errors import NoSuchEntity
from perago.embedded.conductor.payloads import without_nulls
from perago.embedded.conductor.rows import TaskRow, WorkflowRow
from perago.embedded.conductor.starting import create_workflow
from perago.embedded.conductor.state import State
from perago.embedded.conductor.views import task_json, workflow_json

OUTPUT = "conductor.failure_workflow"
"""Where a failed workflow shows the id of the one that was started for it, or why none was."""


def start_failure_workflow(state: State, workflow: WorkflowRow, cause: TaskRow | None) -> None:
    """Start what the definition of a workflow that has just failed names; `cause` is the attempt that ended it."""
    name = workflow.definition.get("failureWorkflow")
    if not name:
        return
    payload = {
        **workflow.input,
        "workflowId": workflow.workflow_id,
        "reason": workflow.reason,
        "failureStatus": workflow.status.value,
        "failedWorkflow": _internal_json(state, workflow, cause),
    }
    if cause is not None:
        payload["failureTaskId"] = cause.task_id
    version = workflow.definition.get("failureWorkflowVersion")
    try:
        rescue = create_workflow(
            state,
            name,
            payload,
            version=version,
            correlation_id=workflow.correlation_id,
            task_to_domain=workflow.task_to_domain,
        )
    except NoSuchEntity as error:
        told = f"Error workflow {name} failed to start.  reason: {error.detail}"
    else:
        told = rescue.workflow_id
        state.call_attention(told, decide=True)
    workflow.output = {**workflow.output, OUTPUT: told}
    state.store_workflow(workflow)


def _internal_json(state: State, workflow: WorkflowRow, cause: TaskRow | None) -> dict[str, Any]:
    """A workflow as the server spells it for itself, which is not quite what it shows to others."""
    shown = workflow_json(workflow, state.now(), include_tasks=False)
    for name in ("history", "startTime", "rateLimited"):
        del shown[name]
    shown["updatedTime"] = shown.pop("updateTime")
    extra = {"failedTaskId": None if cause is None else cause.task_id, "previousStatus": "RUNNING"}
    tasks = [_internal_task_json(state, row) for row in workflow.tasks]
    return without_nulls({**shown, **extra, "tasks": tasks})


def _internal_task_json(state: State, row: TaskRow) -> dict[str, Any]:
    shown = task_json(row, state.now())
    for name in ("firstStartTime", "executionMetadata"):
        del shown[name]
    extra: dict[str, Any] = {
        "reasonForIncompletion": row.reason,
        "callbackAfterMs": row.callback_after_ms,
        "firstScheduledTime": row.first_scheduled_time,
        "waitTimeout": row.wait_until,
        "onStateChange": {},
        "idempotent": False,
        "cachedOutput": False,
        "notifications": {},
        "nonWorkflowEventTask": False,
        "asyncComplete": bool(row.workflow_task["asyncComplete"]),
        "idempotentExecution": False,
    }
    return {**shown, **extra}
