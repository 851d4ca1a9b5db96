"""Leaving out a step that has not begun (`PUT /workflow/{id}/skiptask/{ref}`)."""

from __future__ import annotations

from perago.embedded.conductor.decider import decide
from perago.embedded.conductor.errors import server_error
from perago.embedded.conductor.rows import Status, TaskRow, WorkflowRow, WorkflowStatus
from perago.embedded.conductor.state import State
from perago.embedded.conductor.steps import every_step, holds
from perago.embedded.conductor.systemtasks.task import not_modelled

OPERATION = "skip task"


def skip(state: State, workflow: WorkflowRow, reference_name: str) -> None:
    """Put a finished row in the place of a step, in front of all others.

    Raises:
        ServerError: the workflow does not run, has no such step, or has begun it already (500).
        NotImplementedError: a step of a loop, which skips nothing, but can make the real server decide without end.
    """
    if workflow.status is not WorkflowStatus.RUNNING:
        words = f"is not running so the task referenced by {reference_name} cannot be skipped"
        raise server_error(OPERATION, f"The workflow {workflow.workflow_id} {words}")
    steps = {step["taskReferenceName"]: step for step in every_step(workflow.definition["tasks"])}
    if reference_name not in steps:
        words = f"does not exist in the WorkflowDefinition {workflow.name}"
        raise server_error(OPERATION, f"The task referenced by {reference_name} {words}")
    if any(row.reference_name == reference_name for row in workflow.tasks):
        words = "has already been processed, cannot be skipped"
        raise server_error(OPERATION, f"The task referenced {reference_name} {words}")
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
