"""Rows in the spelling of the server: 34 keys of a polled task, no top-level nulls (`docs/servers/conductor.md` 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perago.embedded.conductor.payloads import copied, without_nulls
from perago.embedded.conductor.rows import TaskRow, WorkflowRow, WorkflowStatus


def task_json(row: TaskRow, now: int) -> dict[str, Any]:
    """The task as GET and poll show it at `now` (ms). The caller owns the result."""
    fields = {**_identity(row), **_times(row), **_payload(row), **_constants(row)}
    fields["queueWaitTime"] = queue_wait(row, now)
    shown = copied(without_nulls(fields))
    return shown if row.definition else {**shown, "taskDefinition": None}


def _identity(row: TaskRow) -> dict[str, Any]:
    return {
        "taskType": row.task_type,
        "taskDefName": row.task_name,
        "status": row.status.value,
        "taskId": row.task_id,
        "referenceTaskName": row.reference_name,
        "retryCount": row.retry_count,
        "retriedTaskId": row.retried_task_id,
        "retried": row.retried,
        "executed": row.executed,
        "seq": row.seq,
        "iteration": row.iteration,
        "pollCount": row.poll_count,
        "workerId": row.worker_id,
        "workflowInstanceId": row.workflow_id,
        "workflowType": row.workflow_name or None,
        "workflowPriority": row.priority,
        "correlationId": row.correlation_id,
        "reasonForIncompletion": row.shown_reason,
        "domain": row.domain,
        "subWorkflowId": row.sub_workflow_id,
    }


def _times(row: TaskRow) -> dict[str, Any]:
    return {
        "scheduledTime": row.scheduled_time,
        "startTime": row.start_time,
        "updateTime": row.update_time,
        "endTime": row.end_time,
        "firstStartTime": 0,
        "startDelayInSeconds": row.start_delay_seconds,
        "callbackAfterSeconds": row.callback_after_seconds,
        "responseTimeoutSeconds": row.response_timeout_seconds,
    }


def _payload(row: TaskRow) -> dict[str, Any]:
    return {
        "inputData": row.input if row.external_input is None else {},
        "externalInputPayloadStoragePath": row.external_input,
        "outputData": row.output if row.external_output is None else {},
        "externalOutputPayloadStoragePath": row.external_output,
        "workflowTask": row.workflow_task,
        "taskDefinition": row.definition,
    }


def _constants(row: TaskRow) -> dict[str, Any]:
    return {
        "rateLimitPerFrequency": row.rate_limit[0],
        "rateLimitFrequencyInSeconds": row.rate_limit[1],
        "callbackFromWorker": True,
        "subworkflowChanged": row.sub_workflow_changed,
        "loopOverTask": row.iteration > 0,
        "executionMetadata": {"additionalContext": {}, "empty": True, "additionalContextMap": {}},
    }


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
        "ownerApp": "",
        "createTime": workflow.create_time,
        "updateTime": workflow.update_time,
        "status": workflow.status.value,
        "endTime": workflow.end_time,
        "workflowId": workflow.workflow_id,
        "parentWorkflowId": workflow.parent_id,
        "parentWorkflowTaskId": workflow.parent_task_id,
        "input": workflow.input,
        "output": workflow.output,
        "correlationId": workflow.correlation_id,
        "reasonForIncompletion": workflow.reason,
        "taskToDomain": workflow.task_to_domain,
        "failedReferenceTaskNames": workflow.failed_references,
        "failedTaskNames": workflow.failed_tasks,
        "workflowDefinition": workflow.definition,
        "priority": workflow.priority,
        "variables": workflow.variables,
        "lastRetriedTime": workflow.last_retried_time,
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
