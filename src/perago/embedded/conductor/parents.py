"""What happens to the parents when a sub-workflow that had ended goes on."""

from __future__ import annotations

from collections.abc import Callable

from perago.embedded.conductor.decider import decide
from perago.embedded.conductor.rows import Status, TaskRow, WorkflowRow, WorkflowStatus
from perago.embedded.conductor.state import Happening, State
from perago.embedded.conductor.systemtasks import system_task
from perago.embedded.conductor.systemtasks.subworkflow import SUB_WORKFLOW

RetrySteps = Callable[[State, WorkflowRow], None]


def revive_parents(state: State, workflow: WorkflowRow, what: str, retry_steps: RetrySteps) -> None:
    """Let the step of each parent run again, and with it what had been cancelled beside it.

    `what` was done to `workflow`; the logs of the steps tell so. Other sub-workflows of a parent that failed are
    retried by `retry_steps`.

    Raises:
        NoSuchEntity: one of them was removed. What was done by then stays done, as on the server.
    """
    told = ""
    while workflow.parent_task_id is not None:
        row = state.tasks.get(workflow.parent_task_id)
        parent = state.workflows.get(workflow.parent_id or "")
        if row is None or parent is None or row.workflow_task["optional"] or row.retried:
            return
        row = row.copy()
        _go_on(state, row)
        told = f"{workflow} -> {told}" if told else str(workflow)
        entry = {"log": f"Sub workflow {told} {what}.", "taskId": row.task_id, "createdTime": state.now()}
        state.logs[row.task_id].append(entry)
        for other in [other.copy() for other in parent.tasks]:
            _repair(state, other, retry_steps)
        parent.status, parent.reason = WorkflowStatus.RUNNING, None
        parent.failed_references, parent.failed_tasks = [], []
        parent.last_retried_time = state.now()
        state.store_workflow(parent)
        decide(state, parent)
        workflow = parent


def _go_on(state: State, row: TaskRow) -> None:
    row.sub_workflow_changed = True
    row.status, row.reason = Status.IN_PROGRESS, None
    state.store(row, Happening.CHANGED)


def _repair(state: State, row: TaskRow, retry_steps: RetrySteps) -> None:
    if row.kind == SUB_WORKFLOW and row.sub_workflow_id is not None and row.status.unsuccessful:
        child = state.workflow("revive a parent", row.sub_workflow_id)
        if child.status is WorkflowStatus.RUNNING:
            _go_on(state, row)
        elif any(inner.status.unsuccessful for inner in child.tasks):
            retry_steps(state, child)
            state.call_attention(child.workflow_id, decide=True)
            _go_on(state, row)
    elif row.status is Status.CANCELED:
        task = system_task(row)
        if task is not None and task.resumes:
            row.status = Status.IN_PROGRESS
        else:
            _begin_again(state, row)
        state.store(row, Happening.CHANGED)


def _begin_again(state: State, row: TaskRow) -> None:
    """The same attempt under the same id, with a retry count that tells otherwise."""
    row.retry_count += 1
    row.status, row.reason, row.worker_id = Status.SCHEDULED, None, None
    row.poll_count = row.start_time = row.end_time = 0
    row.scheduled_time = state.now()
    row.retried = row.executed = False
    state.enqueue(row)
