"""How workflows end: their output, their failed steps, what is still open, and the parent that waits for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from perago.embedded.conductor.context import DecisionContext, system_task
from perago.embedded.conductor.errors import NoSuchEntity
from perago.embedded.conductor.expressions import java_text, resolve
from perago.embedded.conductor.rows import Status, TaskRow, WorkflowRow, WorkflowStatus
from perago.embedded.conductor.scheduling import expression_context
from perago.embedded.conductor.starting import create_workflow
from perago.embedded.conductor.state import HistoryEvent, State
from perago.embedded.conductor.views import workflow_json

FAILURE_OUTPUT = "conductor.failure_workflow"
"""Where a failed workflow shows the id of the one that was started for it, or why none was."""


def end_workflow(
    state: State,
    workflow: WorkflowRow,
    status: WorkflowStatus,
    reason: str | None,
    tasks: Sequence[TaskRow] | None = None,
) -> None:
    """End `workflow` unsuccessfully and cancel what is still open, children included.

    `tasks` are working copies that tell more than what is stored.
    """
    seen = [row.copy() for row in workflow.tasks] if tasks is None else tasks
    workflow.status = status
    workflow.output = _output(workflow, seen)
    _note_failures(workflow, seen)
    workflow.reason = reason
    cancel_open_tasks(state, workflow, seen)
    state.store_workflow(workflow)
    for row in seen:
        state.queue.remove(row.task_id)
    _tell_parent(state, workflow)


def fail_workflow(
    state: State,
    workflow: WorkflowRow,
    status: WorkflowStatus,
    reason: str | None,
    tasks: Sequence[TaskRow],
    cause: TaskRow | None,
) -> None:
    """End `workflow` because of what happened in it, and start the workflow that it names for such an end."""
    if cause is not None:
        state.store(cause, HistoryEvent.CHANGED)
    end_workflow(state, workflow, status, reason, tasks)
    _start_failure_workflow(state, workflow, cause)


def _start_failure_workflow(state: State, workflow: WorkflowRow, cause: TaskRow | None) -> None:
    """Start what the definition of a workflow that has just failed names; `cause` is the attempt that ended it."""
    name = workflow.definition.get("failureWorkflow")
    if not name:
        return
    payload: dict[str, Any] = {
        **workflow.input,
        "workflowId": workflow.workflow_id,
        "reason": workflow.reason,
        "failureStatus": workflow.status.value,
        "failedWorkflow": workflow_json(workflow, state.now()),
    }
    if cause is not None:
        payload["failureTaskId"] = cause.task_id
    for shown, row in zip(payload["failedWorkflow"]["tasks"], workflow.tasks, strict=True):
        shown |= {} if row.reason is None else {"reasonForIncompletion": row.reason}  # all of it
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
    workflow.output = {**workflow.output, FAILURE_OUTPUT: told}
    state.store_workflow(workflow)


def complete_workflow(state: State, workflow: WorkflowRow, tasks: Sequence[TaskRow]) -> None:
    """End `workflow` well."""
    workflow.output = _output(workflow, tasks)
    workflow.status = WorkflowStatus.COMPLETED
    _note_failures(workflow, tasks)
    state.store_workflow(workflow)
    _tell_parent(state, workflow)


def end_by_task(state: State, workflow: WorkflowRow, row: TaskRow, tasks: Sequence[TaskRow]) -> None:
    """End `workflow` as its TERMINATE task says, which wins over whatever is still open.

    The input of a rerun may say nothing or anything; a workflow of which no failure is said ends well.
    """
    status = java_text(row.input.get("terminationStatus"))
    reason = row.input.get("terminationReason") or f"Workflow is {status} by TERMINATE task: {row.task_id}"
    if status in (WorkflowStatus.FAILED, WorkflowStatus.TERMINATED):
        fail_workflow(state, workflow, WorkflowStatus(status), reason, tasks, row)
        return
    workflow.reason = reason
    complete_workflow(state, workflow, tasks)
    cancel_open_tasks(state, workflow, tasks)


def cancel_open_tasks(state: State, workflow: WorkflowRow, tasks: Sequence[TaskRow]) -> None:
    """Cancel what has not ended; a sub-workflow ends with its step."""
    for row in tasks:
        if row.status.terminal:
            continue
        row.status = Status.CANCELED
        task = system_task(row)
        child = state.workflows.get((task.ends_with(state, row) if task else None) or "")
        if child is not None:
            with_what = f"reason: {workflow.reason}" if workflow.reason else f"status {workflow.status}"
            reason = f"Parent workflow has been terminated with {with_what}"
            end_workflow(state, child, WorkflowStatus.TERMINATED, reason)
        state.store(row, HistoryEvent.CHANGED)


def _tell_parent(state: State, workflow: WorkflowRow) -> None:
    """Update the step of the parent that this workflow is the work of, and have the parent decided."""
    row = state.tasks.get(workflow.parent_task_id or "")
    parent = state.workflows.get(workflow.parent_id or "")
    if row is None or parent is None:
        return
    row = row.copy()
    task = system_task(row)
    if task is not None and task.execute(DecisionContext.of(state, parent), row):
        state.store(row, HistoryEvent.CHANGED)
    state.call_attention(parent.workflow_id, decide=True)


def terminating(tasks: Sequence[TaskRow]) -> TaskRow | None:
    """The row that has ended the workflow by itself, if there is one."""
    ending = ((row, system_task(row)) for row in tasks if row.status is Status.COMPLETED)
    return next((row for row, task in ending if task is not None and task.ends_workflow), None)


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _note_failures(workflow: WorkflowRow, tasks: Sequence[TaskRow]) -> None:
    failed = [row for row in tasks if row.status in (Status.FAILED, Status.FAILED_WITH_TERMINAL_ERROR)]
    workflow.failed_references = _unique([*workflow.failed_references, *(row.reference_name for row in failed)])
    workflow.failed_tasks = _unique([*workflow.failed_tasks, *(row.task_name for row in failed)])


def _output(workflow: WorkflowRow, tasks: Sequence[TaskRow]) -> dict[str, Any]:
    """That of a TERMINATE task, else `outputParameters` if the definition has them, else that of the last row."""
    if not tasks:
        return workflow.output
    ended = terminating(tasks)
    if ended is not None:
        return ended.output
    parameters = workflow.definition["outputParameters"]
    if parameters:
        return dict(resolve(parameters, expression_context(workflow, tasks)))
    return tasks[-1].output
