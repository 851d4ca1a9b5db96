"""Search for workflows, and for attempts that have ended, as Conductor's index answers it (`docs/servers/conductor.md`
9).

The model knows the terms that perago writes, `field='text'` and `updateTime>milliseconds` joined by AND, and one order
of each kind. A real server ignores terms with fields that it does not have; here they are refused.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from perago.embedded.conductor.context import not_modelled
from perago.embedded.conductor.state import TaskRow, WorkflowRow
from perago.embedded.conductor.views import queue_wait

Row = TypeVar("Row", TaskRow, WorkflowRow)

_TASKS = "search for tasks"
_WORKFLOWS = "search for workflows"
_EQUALS = re.compile(r"(\w+)\s*=\s*('[^']*'|[^\s'()]+)")
_LATER = re.compile(r"updateTime\s*>\s*(\d+)")
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
}


def search_tasks(rows: Iterable[TaskRow], query: str, *, start: int, size: int, sort: str, now: int) -> dict[str, Any]:
    """The page of the result as JSON.

    Args:
        rows: all attempts.
        query: terms joined by AND; empty for all that have ended.
        start: how many of the first are left out.
        size: how many at most.
        sort: `updateTime:DESC`, `updateTime:ASC` or empty.
        now: milliseconds since the epoch.

    Raises:
        NotImplementedError: a term or an order that the model does not have.
    """
    if sort not in ("", "updateTime:DESC", "updateTime:ASC"):
        raise not_modelled(_TASKS, f"the order {sort!r}")
    ended = (row for row in rows if row.status.terminal)
    found = _matching(_TASKS, ended, query, _OF_TASKS)
    if sort:
        found.sort(key=lambda row: row.update_time, reverse=sort.endswith("DESC"))
    return {"totalHits": len(found), "results": [_summary(row, now) for row in found[start : start + size]]}


def search_workflows(rows: Iterable[WorkflowRow], query: str, *, start: int, size: int, sort: str) -> dict[str, Any]:
    """The page of the result as JSON.

    Args:
        rows: all workflows, in the order of their start.
        query: terms joined by AND; empty for all.
        start: how many of the first are left out.
        size: how many at most.
        sort: `startTime:DESC` or empty.

    Raises:
        NotImplementedError: a term or an order that the model does not have.
    """
    if sort not in ("", "startTime:DESC"):
        raise not_modelled(_WORKFLOWS, f"the order {sort!r}")
    found = _matching(_WORKFLOWS, rows, query, _OF_WORKFLOWS)
    if sort:
        found.reverse()
    return {"totalHits": len(found), "results": [_workflow_summary(row) for row in found[start : start + size]]}


def _matching(where: str, rows: Iterable[Row], query: str, fields: Mapping[str, Callable[[Row], str]]) -> list[Row]:
    terms = [_term(where, text.strip(), fields) for text in re.split(r"\s+AND\s+", query.strip()) if text.strip()]
    return [row for row in rows if all(holds(row) for holds in terms)]


def _term(where: str, text: str, fields: Mapping[str, Callable[[Row], str]]) -> Callable[[Row], bool]:
    later = _LATER.fullmatch(text)
    if later is not None:
        return lambda row: row.update_time > int(later[1])
    equals = _EQUALS.fullmatch(text)
    if equals is None or equals[1] not in fields:
        raise not_modelled(where, f"the term {text!r}")
    field, value = fields[equals[1]], equals[2].strip("'")
    return lambda row: field(row) == value


def _workflow_summary(row: WorkflowRow) -> dict[str, Any]:
    given, output = java_text(row.input), java_text(row.output)
    fields = {
        "workflowType": row.name,
        "version": row.version,
        "workflowId": row.workflow_id,
        "correlationId": row.correlation_id,
        "startTime": _time(row.create_time),
        "updateTime": _time(row.update_time) if row.update_time else None,
        "endTime": _time(row.end_time) if row.end_time else None,
        "status": row.status.value,
        "input": given,
        "output": output,
        "reasonForIncompletion": row.reason,
        "executionTime": max(row.end_time - row.create_time, 0),
        "failedReferenceTaskNames": ",".join(row.failed_references),
        "priority": row.priority,
        "failedTaskNames": list(row.failed_tasks),
        "taskToDomain": dict(row.task_to_domain),
        "parentWorkflowId": row.parent_id or "",
        "classifier": "workflow",
        "inputSize": len(given),
        "outputSize": len(output),
    }
    return {key: value for key, value in fields.items() if value is not None}


def _summary(row: TaskRow, now: int) -> dict[str, Any]:
    fields = {
        "workflowId": row.workflow_id,
        "workflowType": row.workflow_name,
        "correlationId": row.correlation_id,
        "scheduledTime": _time(row.scheduled_time),
        "startTime": _time(row.start_time),
        "updateTime": _time(row.update_time),
        "endTime": _time(row.end_time),
        "status": row.status.value,
        "reasonForIncompletion": row.reason,
        "executionTime": max(row.end_time - row.start_time, 0),
        "queueWaitTime": queue_wait(row, now),
        "taskDefName": row.task_name,
        "taskType": row.task_type,
        "input": java_text(row.input),
        "output": java_text(row.output),
        "taskId": row.task_id,
        "workflowPriority": row.priority,
    }
    return {key: value for key, value in fields.items() if value is not None}


def java_text(value: Any) -> str:
    """A JSON value as Java writes a map: `{params={x=1}}`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}={java_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(java_text, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)


def _time(milliseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
