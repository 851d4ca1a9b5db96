"""Rows in the spelling of the server: 34 keys of a polled task, no top-level nulls (`docs/dev/servers/conductor.md`,
"REST surface").

Searches give summaries of workflows, and of attempts that have ended, as Conductor's index does
(`docs/dev/servers/conductor.md`, "Measured later"). The model knows the terms that perago writes, `field='text'` and
`updateTime>milliseconds` joined by AND, and one order of each kind. A real server ignores terms with unknown fields;
here they are refused.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, TypeVar

from pydantic.alias_generators import to_camel

from perago.embedded.conductor.expressions import java_text
from perago.embedded.conductor.state import TaskRow, WorkflowRow, WorkflowStatus
from perago.embedded.conductor.wire import copied, not_modelled, without_nulls


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
    """Return the task as GET and poll show it at `now` (ms). The caller owns the result."""
    shown: dict[str, Any] = copied(task_fields(row, now))
    return shown if row.definition else {**shown, "taskDefinition": None}


def task_fields(row: TaskRow, now: int) -> dict[str, Any]:
    """Return the task as `task_json` does, but with the values of the row, which must not be changed."""
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
    return without_nulls(fields)


def queue_wait(row: TaskRow, now: int) -> int:
    """Return the time that an attempt waited to be polled (ms)."""
    if row.start_time <= 0 or row.scheduled_time <= 0:
        return 0
    if row.update_time > 0 and row.callback_after_seconds > 0:
        return max(0, now - (row.update_time + row.callback_after_seconds * 1000))
    return row.start_time - row.scheduled_time


def workflow_json(workflow: WorkflowRow, now: int, *, include_tasks: bool = True) -> dict[str, Any]:
    """Return the workflow as GET shows it at `now` (ms). The caller owns the result."""
    shown: dict[str, Any] = copied(workflow_fields(workflow))
    shown["tasks"] = [task_json(row, now) for row in workflow.tasks] if include_tasks else []
    return shown


def workflow_fields(workflow: WorkflowRow) -> dict[str, Any]:
    """Return the workflow as `workflow_json` does, without tasks, and with values that must not be changed."""
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
    return without_nulls(fields)


_FLAGS = ("asyncComplete", "cachedOutput", "idempotent", "idempotentExecution", "nonWorkflowEventTask")
_OF_MODEL: dict[str, Any] = {**dict.fromkeys(_FLAGS, False), "notifications": {}, "onStateChange": {}, "waitTimeout": 0}
"""Members of each attempt in the server's own model that answers do not show."""


def failed_workflow_json(
    workflow: WorkflowRow, now: int, *, before: WorkflowStatus, cause: TaskRow | None
) -> dict[str, Any]:
    """Return the workflow in the shape of the server's own model, as a workflow for failures is given it.

    Args:
        workflow: the workflow.
        now: milliseconds since the epoch.
        before: its status before it failed.
        cause: the attempt that ended it.
    """
    shown = workflow_json(workflow, now)
    shown |= {"previousStatus": before.value, "updatedTime": shown.pop("updateTime")}
    shown |= {} if cause is None else {"failedTaskId": cause.task_id}
    for field in ("history", "rateLimited", "startTime"):
        del shown[field]
    for task, row in zip(shown["tasks"], workflow.tasks, strict=True):
        own = {"callbackAfterMs": row.callback_after_ms, "firstScheduledTime": row.first_scheduled_time}
        task |= copied(_OF_MODEL) | own | ({} if row.reason is None else {"reasonForIncompletion": row.reason})
        del task["executionMetadata"], task["firstStartTime"]
    return shown


# ----------------------------------------------------------------------------- searches

Row = TypeVar("Row", TaskRow, WorkflowRow)

_TASKS = "search for tasks"
_WORKFLOWS = "search for workflows"
_EQUALS = re.compile(r"(\w+)\s*=\s*('[^']*'|[^\s'()]+)")
_ORDER = re.compile(r"(updateTime|startTime)\s*([<>])\s*(\d+)")
_TASK_SUMMARY = in_camel_case("workflow_id", "correlation_id", "task_type", "task_id")
_WORKFLOW_SUMMARY = in_camel_case("version", "workflow_id", "correlation_id", "priority")
_OF_TASKS: Mapping[str, Callable[[TaskRow], str]] = {
    "taskType": lambda row: row.task_type,
    "taskDefName": lambda row: row.task_name,
    "status": lambda row: row.status,
    "workflowType": lambda row: row.workflow_name,
    "taskId": lambda row: row.task_id,
    "workflowId": lambda row: row.workflow_id,
}
_OF_WORKFLOWS: Mapping[str, Callable[[WorkflowRow], str]] = {
    "status": lambda row: row.status,
    "workflowType": lambda row: row.name,
    "workflowId": lambda row: row.workflow_id,
    "correlationId": lambda row: row.correlation_id or "",
}


def search_tasks(rows: Iterable[TaskRow], query: str, *, start: int, size: int, sort: str, now: int) -> dict[str, Any]:
    """Return the page of the result as JSON.

    Args:
        rows: all attempts.
        query: terms joined by AND; empty for all that have ended.
        start: the number of results to skip.
        size: the maximum number of results.
        sort: `updateTime:DESC`, `updateTime:ASC` or empty.
        now: milliseconds since the epoch.

    Raises:
        NotImplementedError: a term or an order that the model does not have.
    """
    if sort not in ("", "updateTime:DESC", "updateTime:ASC"):
        raise not_modelled(_TASKS, f"the order {sort!r}")
    ended = (row for row in rows if row.status.terminal)
    hits = _matching(_TASKS, ended, query, _OF_TASKS)
    if sort:
        hits.sort(key=lambda row: row.update_time, reverse=sort.endswith("DESC"))
    return {"totalHits": len(hits), "results": [_summary(row, now) for row in hits[start : start + size]]}


def search_workflows(rows: Iterable[WorkflowRow], query: str, *, start: int, size: int, sort: str) -> dict[str, Any]:
    """Return the page of the result as JSON.

    Args:
        rows: all workflows, in the order of their start.
        query: terms joined by AND; empty for all.
        start: the number of results to skip.
        size: the maximum number of results.
        sort: `startTime:DESC` or empty.

    Raises:
        NotImplementedError: a term or an order that the model does not have.
    """
    if sort not in ("", "startTime:DESC"):
        raise not_modelled(_WORKFLOWS, f"the order {sort!r}")
    hits = _matching(_WORKFLOWS, rows, query, _OF_WORKFLOWS)
    if sort:
        hits.reverse()
    return {"totalHits": len(hits), "results": [_workflow_summary(row) for row in hits[start : start + size]]}


def _matching(where: str, rows: Iterable[Row], query: str, fields: Mapping[str, Callable[[Row], str]]) -> list[Row]:
    terms = [_term(where, text.strip(), fields) for text in re.split(r"\s+AND\s+", query.strip()) if text.strip()]
    return [row for row in rows if all(holds(row) for holds in terms)]


def _term(where: str, text: str, fields: Mapping[str, Callable[[Row], str]]) -> Callable[[Row], bool]:
    order = _ORDER.fullmatch(text)
    if order is not None:
        sign, limit = (1 if order[2] == ">" else -1), int(order[3])
        started = "create_time" if where == _WORKFLOWS else "start_time"
        time_of = attrgetter("update_time" if order[1] == "updateTime" else started)
        return lambda row: (time_of(row) - limit) * sign > 0
    equals = _EQUALS.fullmatch(text)
    if equals is None or equals[1] not in fields:
        raise not_modelled(where, f"the term {text!r}")
    field, value = fields[equals[1]], equals[2].strip("'")
    pattern = re.compile(".*".join(map(re.escape, value.split("*"))))
    return lambda row: pattern.fullmatch(field(row)) is not None


def _workflow_summary(row: WorkflowRow) -> dict[str, Any]:
    input_text, output_text = java_text(row.input), java_text(row.output)
    fields = {
        **_WORKFLOW_SUMMARY(row),
        "workflowType": row.name,
        "startTime": _time(row.create_time),
        "updateTime": _time(row.update_time) if row.update_time else None,
        "endTime": _time(row.end_time) if row.end_time else None,
        "status": row.status.value,
        "input": input_text,
        "output": output_text,
        "reasonForIncompletion": row.reason,
        "executionTime": max(row.end_time - row.create_time, 0),
        "failedReferenceTaskNames": ",".join(row.failed_references),
        "failedTaskNames": list(row.failed_tasks),
        "taskToDomain": dict(row.task_to_domain),
        "parentWorkflowId": row.parent_id or "",
        "classifier": "workflow",
        "inputSize": len(input_text),
        "outputSize": len(output_text),
    }
    return without_nulls(fields)


def _summary(row: TaskRow, now: int) -> dict[str, Any]:
    fields = {
        **_TASK_SUMMARY(row),
        "workflowType": row.workflow_name,
        "scheduledTime": _time(row.scheduled_time),
        "startTime": _time(row.start_time),
        "updateTime": _time(row.update_time),
        "endTime": _time(row.end_time),
        "status": row.status.value,
        "reasonForIncompletion": row.reason,
        "executionTime": max(row.end_time - row.start_time, 0),
        "queueWaitTime": queue_wait(row, now),
        "taskDefName": row.task_name,
        "input": java_text(row.input),
        "output": java_text(row.output),
        "workflowPriority": row.priority,
    }
    return without_nulls(fields)


def _time(milliseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
