"""What the server's index holds of workflows and attempts: the summaries that lists and searches show."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from perago.embedded.conductor.coercion import without_nulls
from perago.embedded.conductor.javatext import java_text
from perago.embedded.conductor.rows import TaskRow, WorkflowRow

Summary = dict[str, Any]

WORKFLOW_COLUMNS = frozenset(
    (
        "workflowId",
        "correlationId",
        "workflowType",
        "startTime",
        "endTime",
        "status",
        "updateTime",
        "parentWorkflowId",
        "classifier",
    )
)
TASK_COLUMNS = frozenset(
    ("taskId", "taskType", "taskDefName", "status", "startTime", "endTime", "updateTime", "workflowType")
)
COLUMNS = WORKFLOW_COLUMNS | TASK_COLUMNS
"""Of either index; one that a query names and its own index lacks is an error of the database."""


def workflow_summary(row: WorkflowRow) -> Summary:
    """A workflow in brief."""
    shown_input, shown_output = java_text(row.input), java_text(row.output)
    return without_nulls(
        {
            "workflowType": row.name,
            "version": row.version,
            "workflowId": row.workflow_id,
            "correlationId": row.correlation_id,
            "startTime": instant(row.create_time),
            "updateTime": instant(row.update_time),
            "endTime": instant(row.end_time) if row.end_time else None,
            "status": row.status.value,
            "input": shown_input,
            "output": shown_output,
            "reasonForIncompletion": row.reason,
            "executionTime": row.end_time - row.create_time if row.end_time else 0,
            "failedReferenceTaskNames": ",".join(row.failed_references),
            "priority": row.priority,
            "failedTaskNames": list(row.failed_tasks),
            "taskToDomain": dict(row.task_to_domain),
            "parentWorkflowId": row.parent_id or "",
            "classifier": "workflow",
            "inputSize": len(shown_input),
            "outputSize": len(shown_output),
        }
    )


def task_summary(row: TaskRow, queue_wait_ms: int) -> Summary:
    """An attempt in brief; `queue_wait_ms` is how long it waited to be polled."""
    return without_nulls(
        {
            "workflowId": row.workflow_id,
            "workflowType": row.workflow_name or None,
            "correlationId": row.correlation_id,
            "scheduledTime": instant(row.scheduled_time),
            "startTime": instant(row.start_time),
            "updateTime": instant(row.update_time),
            "endTime": instant(row.end_time),
            "status": row.status.value,
            "reasonForIncompletion": row.shown_reason,
            "executionTime": row.end_time - row.start_time if row.end_time else 0,
            "queueWaitTime": queue_wait_ms,
            "taskDefName": row.task_name,
            "taskType": row.task_type,
            "input": java_text(row.input if row.external_input is None else {}),
            "output": java_text(row.output if row.external_output is None else {}),
            "taskId": row.task_id,
            "externalInputPayloadStoragePath": row.external_input,
            "externalOutputPayloadStoragePath": row.external_output,
            "workflowPriority": row.priority,
            "domain": row.domain,
        }
    )


def instant(milliseconds: int) -> str:
    """A time as summaries show it, in UTC."""
    whole, rest = divmod(milliseconds, 1000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{rest:03d}Z"
