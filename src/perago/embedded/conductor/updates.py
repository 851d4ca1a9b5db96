"""Calls of workers about their attempts: polls, results, leases, logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, field_validator

from perago.conductor_json import every_step
from perago.embedded.conductor import wire
from perago.embedded.conductor.decider import decide
from perago.embedded.conductor.state import (
    HistoryEvent,
    State,
    Status,
    TaskRow,
    WorkflowRow,
    holds,
    without_iteration,
)

OPERATION = "update task"

RESULT_STATUSES = ("IN_PROGRESS", "FAILED", "FAILED_WITH_TERMINAL_ERROR", "COMPLETED", "CANCELED")


class _Log(wire.Fields):
    log: str = ""
    created_time: wire.Long = 0


class TaskResult(wire.Fields):
    """A task result as a worker sends it. `None` is a missing value."""

    task_id: str | None = None
    workflow_instance_id: str | None = None
    status: Literal["IN_PROGRESS", "FAILED", "FAILED_WITH_TERMINAL_ERROR", "COMPLETED", "CANCELED"] | None = None
    reason_for_incompletion: str | None = None
    worker_id: str | None = None
    callback_after_seconds: wire.Long = 0
    output_data: Any = None
    logs: list[_Log] = Field(default_factory=list)
    sub_workflow_id: str | None = None
    extend_lease: bool = False
    external_output_payload_storage_path: str | None = None
    output_message: None = None  # of a class that the server's JSON reader cannot read

    @field_validator("logs", mode="before")
    @classmethod
    def _texts_are_logs(cls, logs: Any) -> Any:
        if not isinstance(logs, list):
            return logs
        return [{"log": log} if isinstance(log, str) else {} if log is None else log for log in logs]


def read_result(result: Mapping[str, Any]) -> TaskResult:
    """Return the result in the JSON of `POST /tasks`, cut to the parts that the server stores.

    Raises:
        Malformed: wrong types for the server's reader (500).
        InvalidRequest: missing ids (400).
        NotImplementedError: the output claims to be in external storage.
    """
    read = TaskResult.read(OPERATION, {**result, "outputData": None})
    if read.external_output_payload_storage_path:
        raise NotImplementedError("InMemoryConductor: externalOutputPayloadStoragePath is not modelled")
    read.output_data = wire.through_json(OPERATION, result.get("outputData"), what="outputData")
    ids = {"workflowInstanceId": read.workflow_instance_id, "taskId": read.task_id}
    if problems := [
        {"path": f"updateTask.arg0.{field}", "message": f"{field} cannot be null or empty"}
        for field, value in ids.items()
        if not value
    ]:
        raise wire.validation_failed(OPERATION, problems)
    return read


def update_task(state: State, result: Mapping[str, Any]) -> str:
    """Apply a task result as `POST /tasks` does; returns the task id that was sent.

    A result for an attempt or a workflow that has ended is ignored, but answered with success. An IN_PROGRESS result
    gives the attempt back to the queue (`docs/dev/servers/conductor.md`, "Attempt state machine").

    Raises:
        Malformed, ServerError: malformed, or no status for a live attempt (500).
        InvalidRequest: ids missing (400).
        NoSuchEntity: unknown workflow or task (404).
    """
    return _update(state, read_result(result))


def _update(state: State, result: TaskResult) -> str:
    if result.extend_lease:
        _extend_lease(state, str(result.task_id))
        return str(result.task_id)
    workflow = state.workflow(OPERATION, str(result.workflow_instance_id))
    row = _find(state, str(result.task_id))
    if row.status.terminal or workflow.status.terminal:
        state.queue.remove(row.task_id)
        state.record(HistoryEvent.IGNORED, row)
        return row.task_id
    if result.status is None:
        raise wire.server_error(OPERATION, "the result has no status")
    row = row.copy()
    state.between_writes()
    _apply(state, row, result.status, result)
    for entry in result.logs[: wire.MAX_RESULT_LOGS]:
        state.add_log(row.task_id, entry.log, entry.created_time)
    if not _left_to_a_join(workflow, row):
        decide(state, workflow)
    return row.task_id


def _left_to_a_join(workflow: WorkflowRow, row: TaskRow) -> bool:
    """Return whether the row ends a branch well: the JOIN that waits for it then brings the decision about."""
    if row.iteration or row.status.unsuccessful:
        return False
    steps = list(every_step(workflow.definition["tasks"]))
    forked = any(step["type"] == "FORK_JOIN" and holds(step, row.reference_name) for step in steps)
    return forked and any(step["type"] == "JOIN" and row.reference_name in step["joinOn"] for step in steps)


def finished_by(state: State, result: Mapping[str, Any]) -> TaskRow | None:
    """Apply a task result; the attempt if it is finished now, or was before. A lease extension finishes nothing."""
    task_result = read_result(result)
    row = state.tasks[_update(state, task_result)]
    return row if row.status.terminal and not task_result.extend_lease else None


def open_attempt(state: State, workflow_id: str, reference_name: str) -> TaskRow | None:
    """Return the attempt of a step that waits for a result, if there is one; in a loop also without its round."""
    workflow = state.workflows.get(workflow_id)
    rows = [] if workflow is None else [row for row in workflow.tasks if not row.status.terminal]
    names = ((row, (row.reference_name, without_iteration(row.reference_name))) for row in rows)
    return next((row for row, accepted in names if reference_name in accepted), None)


def update_row(state: State, row: TaskRow, status: str, output: Mapping[str, Any], worker_id: str | None) -> str:
    """Give `row` a status and add to its output. Its other fields stay. Return its id."""
    which = {"taskId": row.task_id, "workflowInstanceId": row.workflow_id}
    same = {"reasonForIncompletion": row.reason, "callbackAfterSeconds": row.callback_after_seconds}
    changed = {"status": status, "workerId": worker_id, "outputData": {**row.output, **output}}
    return update_task(state, {**which, **same, **changed})


def _find(state: State, task_id: str) -> TaskRow:
    try:
        return state.tasks[task_id]
    except KeyError:
        raise wire.not_found(OPERATION, f"No such task found by id: {task_id}") from None


def _apply(state: State, row: TaskRow, status: str, result: TaskResult) -> None:
    given_back = status == "IN_PROGRESS" and row.kind == "SIMPLE"
    row.status = Status.SCHEDULED if given_back else Status(status)
    row.reason = None if result.reason_for_incompletion is None else result.reason_for_incompletion[: wire.MAX_REASON]
    row.worker_id = result.worker_id
    row.callback_after_seconds = result.callback_after_seconds
    row.callback_after_ms = 0
    row.output, row.external_output = result.output_data, None
    row.attached_workflow_id = result.sub_workflow_id
    if row.status.terminal:
        state.queue.remove(row.task_id)
    else:
        state.postpone(row)
    state.store(row, HistoryEvent.UPDATED)


def _extend_lease(state: State, task_id: str) -> None:
    """Change only `updateTime`. This does not show who has the attempt (`docs/dev/servers/conductor.md`, "Lease
    extension")."""
    row = _find(state, task_id).copy()
    state.between_writes()
    if row.status.terminal:
        state.record(HistoryEvent.IGNORED, row)
    else:
        state.store(row, HistoryEvent.LEASE_EXTENDED)


# -------------------------------------------------------------------------------- polls

POSTPONE_SECONDS = 60
"""The longest time that an attempt is put aside by a full `concurrentExecLimit`; a free slot ends that."""


def hand_out(state: State, task_ids: Sequence[str], worker_id: str | None) -> list[TaskRow]:
    """Mark popped attempts as in progress.

    Attempts that ended since they were popped, and those that would exceed their limit, are skipped silently.
    """
    handed_out = []
    for task_id in task_ids:
        row = state.tasks.get(task_id)
        if row is None or row.status.terminal:
            continue
        if _exceeds_limit(state, row):
            state.queue.push(row, state.now() + POSTPONE_SECONDS * 1000, limited=True)
            continue
        row = row.copy()
        state.between_writes()
        row.status = Status.IN_PROGRESS
        row.start_time = row.start_time or state.now()
        row.callback_after_seconds = 0
        row.worker_id = worker_id
        row.poll_count += 1
        state.store(row, HistoryEvent.POLLED)
        handed_out.append(row)
    return handed_out


def _exceeds_limit(state: State, row: TaskRow) -> bool:
    """Whether the limit is reached: by running attempts, or by earlier open attempts, including parked ones.

    An attempt that was run again after its end is no longer listed, so no poll gets it.
    """
    limit = row.definition.get("concurrentExecLimit") or 0
    if limit <= 0:
        return False
    open_rows = listed(state, row.task_name)
    if sum(r.status is Status.IN_PROGRESS for r in open_rows) >= limit:
        return True
    first = sorted(open_rows, key=lambda r: r.scheduled_time)[:limit]
    return all(r.task_id != row.task_id for r in first)


def requeue(state: State, task_name: str) -> int:
    """Queue every listed attempt of a type again, including those in progress, and return their number.

    Remaining delays are kept. An attempt in progress is handed out a second time. Steps of the server itself are
    skipped.
    """
    rows = [row for row in listed(state, task_name) if row.kind == "SIMPLE"]
    for row in rows:
        elapsed = (state.now() - row.update_time) // 1000
        state.queue.remove(row.task_id)
        state.queue.push(row, state.now() + max(0, row.callback_after_seconds - elapsed) * 1000)
    return len(rows)


def listed(state: State, task_name: str) -> list[TaskRow]:
    """Return the attempts of a type that have not ended."""
    return [row for row in state.tasks.values() if row.task_name == task_name and row.listed]
