"""A task result as a worker sends it, read completely before anything is done with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from perago.embedded.conductor.coercion import FieldReader
from perago.embedded.conductor.errors import malformed, validation_failed
from perago.embedded.conductor.jackson import TASK_LOG, TASK_RESULT, list_of, not_a_bean
from perago.embedded.conductor.limits import MAX_REASON, MAX_RESULT_LOGS
from perago.embedded.conductor.wire import through_json

OPERATION = "update task"

RESULT_STATUSES = ("IN_PROGRESS", "FAILED", "FAILED_WITH_TERMINAL_ERROR", "COMPLETED", "CANCELED")
_LISTED = ("CANCELED", "COMPLETED", "FAILED_WITH_TERMINAL_ERROR", "FAILED", "IN_PROGRESS")


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What counts of a result; `None` is what was not sent."""

    task_id: str
    workflow_id: str
    status: str | None
    reason: str | None
    worker_id: str | None
    callback_after_seconds: int
    output: dict[str, Any]
    logs: tuple[tuple[str, int], ...]
    """Texts with their times in milliseconds."""
    sub_workflow_id: str | None
    extends_lease: bool


def read_result(result: Mapping[str, Any]) -> TaskResult:
    """The result in the JSON of `POST /tasks`, cut to what the server keeps.

    Raises:
        Malformed: not the types that the server's reader wants (500).
        InvalidRequest: ids missing (400).
    """
    read = FieldReader(OPERATION, result)
    status = read.optional_choice("status", RESULT_STATUSES, of=f"{TASK_RESULT}$Status", listed=_LISTED)
    reason = read.text("reasonForIncompletion")
    logs = tuple(_log_entry(entry) for entry in read.items("logs", of=list_of(TASK_LOG)))
    read.mapping("outputData")
    ids = {field: read.text(field) for field in ("workflowInstanceId", "taskId")}
    found = TaskResult(
        task_id=ids["taskId"] or "",
        workflow_id=ids["workflowInstanceId"] or "",
        status=status,
        reason=None if reason is None else reason[:MAX_REASON],
        worker_id=read.text("workerId"),
        callback_after_seconds=read.integer("callbackAfterSeconds", 0, bits=64),
        output=through_json(OPERATION, result.get("outputData"), what="outputData"),
        logs=logs[:MAX_RESULT_LOGS],
        sub_workflow_id=read.text("subWorkflowId"),
        extends_lease=read.boolean("extendLease", False),
    )
    problems = list(_missing(ids))
    if problems:
        raise validation_failed(OPERATION, problems)
    return found


def _missing(ids: Mapping[str, str | None]) -> Iterator[dict[str, str]]:
    names = {"workflowInstanceId": "Workflow Id", "taskId": "Task ID"}
    for field, value in ids.items():
        if not value:
            problem = {"path": f"updateTask.arg0.{field}", "message": f"{names[field]} cannot be null or empty"}
            yield problem if value is None else {**problem, "invalidValue": value}


def _log_entry(entry: Any) -> tuple[str, int]:
    """Text and time of one entry; a text stands for an entry without a time, null for an empty one."""
    if isinstance(entry, str) and entry:
        entry = {"log": entry}
    if entry is not None and not isinstance(entry, Mapping):
        raise malformed(OPERATION, not_a_bean(TASK_LOG, entry))
    read = FieldReader(OPERATION, entry or {})
    return read.text("log") or "", read.integer("createdTime", 0, bits=64)
