"""What the server does on its own, a moment after a call: its own workers, and workflows that wait to be decided.

The model does it before the call returns, and its workers first: a JOIN that waits for a sub-workflow ends before the
end of that sub-workflow leads to a decision. A real server takes some 50 to 300 ms for it, a JOIN that has waited for
long up to 30 s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger

from perago.embedded.conductor.context import DecisionContext, SystemTask, system_task
from perago.embedded.conductor.decider import decide
from perago.embedded.conductor.rows import Status, TaskRow, WorkflowRow
from perago.embedded.conductor.state import HistoryEvent, State
from perago.embedded.conductor.systemtasks.subworkflow import SUB_WORKFLOW, end_as


def settle(state: State) -> None:
    """Go on until nothing is left to do at this moment."""
    _wake(state)
    while state.attention:
        workflow_id = next(iter(state.attention))
        must_decide = state.attention.pop(workflow_id)
        workflow = state.workflows.get(workflow_id)
        if workflow is None or workflow.status.terminal:
            continue
        with guarded(workflow_id):
            _work(state, workflow)
            if must_decide:
                _repair_sub_workflows(state, workflow)
                decide(state, workflow)


@contextmanager
def guarded(workflow_id: str) -> Iterator[None]:
    """Nothing in a workflow may end what the server does on its own: it is logged, and other workflows continue."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this workflow alone
        logger.warning("Conductor cannot decide workflow {}: {}: {}", workflow_id, type(error).__name__, error)


def _repair_sub_workflows(state: State, workflow: WorkflowRow) -> None:
    """Let steps end as their sub-workflows have: a rerun wakes the parent of one that ends at once.

    The server's sweeper takes the status and the output over, and no reason.
    """
    for row in [row.copy() for row in workflow.tasks if row.kind == SUB_WORKFLOW and row.status is Status.IN_PROGRESS]:
        child = state.workflows.get(row.sub_workflow_id or "")
        if child is not None and child.status.terminal:
            end_as(row, child)
            state.store(row, HistoryEvent.CHANGED)


def _work(state: State, workflow: WorkflowRow) -> None:
    for task_id in [row.task_id for row in workflow.tasks]:
        row = state.tasks.get(task_id)
        task = None if row is None or workflow.status.terminal else system_task(row)
        if row is not None and task is not None and task.background and _is_due(state, row):
            _work_on(state, workflow, row.copy(), task)


def _wake(state: State) -> None:
    """Have those workflows looked at in which an attempt of the server falls due."""
    for task_id, due in list(state.timers.items()):
        if due <= state.now():
            del state.timers[task_id]
            row = state.tasks.get(task_id)
            if row is not None:
                state.call_attention(row.workflow_id)


def _is_due(state: State, row: TaskRow) -> bool:
    return not row.status.terminal and state.timers.get(row.task_id, 0) <= state.now()


def _work_on(state: State, workflow: WorkflowRow, row: TaskRow, task: SystemTask) -> None:
    scheduled = row.status is Status.SCHEDULED
    if not scheduled and not task.ends_by_itself:
        return
    before = (row.status, row.output)
    context = DecisionContext.of(state, workflow)
    if scheduled:
        row.start_time = state.now()
        task.start(context, row)
    else:
        task.execute(context, row)
    if row.poll_count and (row.status, row.output) == before:
        return
    row.poll_count += 1
    done = row.status.terminal or (scheduled and not task.ends_by_itself)
    if done:
        state.queue.remove(row.task_id)
    state.store(row, HistoryEvent.CHANGED)
    if done:
        decide(state, workflow)
