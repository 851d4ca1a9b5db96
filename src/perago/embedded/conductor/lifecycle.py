"""What people do to whole workflows: end, pause, remove, skip; `rerun` has retry, restart and rerun."""

from __future__ import annotations

from perago.embedded.conductor.context import not_modelled
from perago.embedded.conductor.decider import decide
from perago.embedded.conductor.ending import end_workflow
from perago.embedded.conductor.errors import bad_request, conflict, server_error
from perago.embedded.conductor.rows import Status, TaskRow, WorkflowRow, WorkflowStatus
from perago.embedded.conductor.state import HistoryEvent, State
from perago.embedded.conductor.steps import every_step, holds


def terminate(state: State, workflow: WorkflowRow, reason: str | None) -> None:
    """End a workflow by hand; open attempts become CANCELED. One that is TERMINATED already is left alone."""
    if workflow.status is WorkflowStatus.COMPLETED:
        raise conflict("terminate workflow", "Cannot terminate a COMPLETED workflow.")
    if workflow.status is not WorkflowStatus.TERMINATED:
        end_workflow(state, workflow, WorkflowStatus.TERMINATED, reason)


def pause(state: State, workflow: WorkflowRow) -> None:
    """Stop scheduling. What is queued is still handed out, results are still accepted
    (`docs/servers/conductor.md` 2)."""
    if workflow.status.terminal:
        raise conflict("pause workflow", f"Workflow {workflow} has ended, status cannot be updated.")
    if workflow.status is not WorkflowStatus.PAUSED:
        workflow.status = WorkflowStatus.PAUSED
        state.store_workflow(workflow)


def resume(state: State, workflow: WorkflowRow) -> None:
    """Go on, and catch up with what happened during the pause."""
    if workflow.status is not WorkflowStatus.PAUSED:
        detail = (
            f"The workflow {workflow.workflow_id} is not PAUSED so cannot resume. Current status is {workflow.status}"
        )
        raise server_error("resume workflow", detail)
    workflow.status = WorkflowStatus.RUNNING
    workflow.last_retried_time = state.now()
    state.store_workflow(workflow)
    decide(state, workflow)


def reset_callbacks(state: State, workflow: WorkflowRow) -> None:
    """Make delayed attempts pollable now."""
    if workflow.status.terminal:
        detail = f"Workflow is in terminal state. Status = {workflow.status}"
        raise conflict("reset callbacks", detail)
    for row in [row.copy() for row in workflow.tasks]:
        if row.kind == "SIMPLE" and row.status is Status.SCHEDULED and row.callback_after_seconds > 0:
            row.callback_after_seconds = row.callback_after_ms = 0
            state.enqueue(row)
            state.store(row, HistoryEvent.CHANGED)


def remove(state: State, workflow: WorkflowRow, *, archive: bool) -> None:
    """Forget a workflow and its attempts. To `archive` it, it must have ended; there is no archive to look into."""
    if archive and not workflow.status.terminal:
        detail = f"Cannot archive workflow: {workflow.workflow_id} with status: {workflow.status}"
        raise bad_request("remove workflow", detail)
    for row in list(workflow.tasks):
        state.remove_task(row)
    del state.workflows[workflow.workflow_id]


def skip(state: State, workflow: WorkflowRow, reference_name: str) -> None:
    """Put a finished row in the place of a step, in front of all others.

    Raises:
        ServerError: the workflow does not run, has no such step, or has begun it already (500).
        NotImplementedError: a step of a loop, which skips nothing, but can make the real server decide without end.
    """
    if workflow.status is not WorkflowStatus.RUNNING:
        words = f"is not running so the task referenced by {reference_name} cannot be skipped"
        raise server_error("skip task", f"The workflow {workflow.workflow_id} {words}")
    steps = {step["taskReferenceName"]: step for step in every_step(workflow.definition["tasks"])}
    if reference_name not in steps:
        words = f"does not exist in the WorkflowDefinition {workflow.name}"
        raise server_error("skip task", f"The task referenced by {reference_name} {words}")
    if any(row.reference_name == reference_name for row in workflow.tasks):
        words = "has already been processed, cannot be skipped"
        raise server_error("skip task", f"The task referenced {reference_name} {words}")
    loops = [step for step in steps.values() if step["type"] == "DO_WHILE"]
    if any(holds(loop, reference_name) for loop in loops):
        raise not_modelled(f"workflow {workflow.name}", f"skipping {reference_name}, which is part of a loop,")
    step = {name: value for name, value in steps[reference_name].items() if name != "taskDefinition"}
    row = TaskRow(
        task_id=state.new_id(),
        workflow_id=workflow.workflow_id,
        workflow_name="",
        task_type=step["name"],
        task_name=step["name"],
        reference_name=reference_name,
        definition={},
        workflow_task=step,
        priority=workflow.priority,
        correlation_id=workflow.correlation_id,
        input={},
        status=Status.SKIPPED,
        scheduled_time=state.now(),
        end_time=state.now(),
    )
    state.place(workflow, row)
    decide(state, workflow)
