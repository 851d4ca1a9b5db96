"""Rows in the spelling of the server: 34 keys of a polled task, no top-level nulls (`docs/servers/conductor.md` 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from pydantic.alias_generators import to_camel

from perago.embedded.conductor.state import TaskRow, WorkflowRow, WorkflowStatus
from perago.embedded.conductor.wire import copied, without_nulls


def in_camel_case(*names: str) -> Callable[[object], dict[str, Any]]:
    """Gives those attributes of a row under their names on the server."""
    get, spelled = attrgetter(*names), tuple(map(to_camel, names))
    return lambda row: dict(zip(spelled, get(row), strict=True))


_TASK = in_camel_case(
    *("task_type", "status", "task_id", "retry_count", "retried_task_id", "retried", "executed", "seq", "iteration"),
    *("poll_count", "worker_id", "correlation_id", "domain", "sub_workflow_id", "scheduled_time", "start_time"),
    *("update_time", "end_time", "callback_after_seconds", "response_timeout_seconds", "workflow_task"),
)
_WORKFLOW = in_camel_case(
    *("create_time", "update_time", "status", "end_time", "workflow_id", "input", "output", "correlation_id"),
    *("task_to_domain", "priority", "variables", "last_retried_time"),
)


def task_json(row: TaskRow, now: int) -> dict[str, Any]:
    """The task as GET and poll show it at `now` (ms). The caller owns the result."""
    fields = {
        **_TASK(row),
        "taskDefName": row.task_name,
        "referenceTaskName": row.reference_name,
        "workflowInstanceId": row.workflow_id,
        "workflowType": row.workflow_name or None,
        "workflowPriority": row.priority,
        "reasonForIncompletion": row.shown_reason,
        "firstStartTime": 0,
        "startDelayInSeconds": row.start_delay_seconds,
        "inputData": row.input if row.external_input is None else {},
        "externalInputPayloadStoragePath": row.external_input,
        "outputData": row.output if row.external_output is None else {},
        "externalOutputPayloadStoragePath": row.external_output,
        "taskDefinition": row.definition,
        "rateLimitPerFrequency": row.rate_limit[0],
        "rateLimitFrequencyInSeconds": row.rate_limit[1],
        "callbackFromWorker": True,
        "subworkflowChanged": row.sub_workflow_changed,
        "loopOverTask": row.iteration > 0,
        "executionMetadata": {"additionalContext": {}, "empty": True, "additionalContextMap": {}},
        "queueWaitTime": queue_wait(row, now),
    }
    shown = copied(without_nulls(fields))
    return shown if row.definition else {**shown, "taskDefinition": None}


def queue_wait(row: TaskRow, now: int) -> int:
    """How long an attempt waited to be polled (ms)."""
    if row.start_time <= 0 or row.scheduled_time <= 0:
        return 0
    if row.update_time > 0 and row.callback_after_seconds > 0:
        return max(0, now - (row.update_time + row.callback_after_seconds * 1000))
    return row.start_time - row.scheduled_time


def workflow_json(workflow: WorkflowRow, now: int, *, include_tasks: bool = True) -> dict[str, Any]:
    """The workflow as GET shows it at `now` (ms). The caller owns the result."""
    fields = {
        **_WORKFLOW(workflow),
        "ownerApp": "",
        "parentWorkflowId": workflow.parent_id,
        "parentWorkflowTaskId": workflow.parent_task_id,
        "reasonForIncompletion": workflow.reason,
        "failedReferenceTaskNames": workflow.failed_references,
        "failedTaskNames": workflow.failed_tasks,
        "workflowDefinition": workflow.definition,
        "history": [],
        "rateLimited": False,
        "startTime": workflow.create_time,
        "workflowName": workflow.name,
        "workflowVersion": workflow.version,
    }
    shown = copied(without_nulls(fields))
    shown["tasks"] = [task_json(row, now) for row in workflow.tasks] if include_tasks else []
    return shown


@dataclass(frozen=True, slots=True)
class WorkflowSummary:
    """One workflow without its payloads and attempts, for lists. Times are ms since the epoch, 0 for not yet."""

    workflow_id: str
    name: str
    version: int
    status: WorkflowStatus
    start_time: int
    end_time: int
    reason: str | None
    failed_references: tuple[str, ...]


def summary_of(row: WorkflowRow) -> WorkflowSummary:
    """The row in brief."""
    return WorkflowSummary(
        workflow_id=row.workflow_id,
        name=row.name,
        version=row.version,
        status=row.status,
        start_time=row.create_time,
        end_time=row.end_time,
        reason=row.reason,
        failed_references=tuple(row.failed_references),
    )
