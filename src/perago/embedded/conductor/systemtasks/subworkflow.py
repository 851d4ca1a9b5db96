"""SUB_WORKFLOW: another workflow as one step. The child tells its parent when it ends (`reference/conductor.md` 9)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from perago.embedded.conductor.expressions import resolve
from perago.embedded.conductor.rows import Status, TaskRow, WorkflowRow, WorkflowStatus
from perago.embedded.conductor.starting import create_workflow
from perago.embedded.conductor.state import State
from perago.embedded.conductor.steps import Step
from perago.embedded.conductor.systemtasks.task import SystemTask, not_modelled, required
from perago.ports import ServiceError

if TYPE_CHECKING:
    from perago.embedded.conductor.turn import Turn

SUB_WORKFLOW = "SUB_WORKFLOW"

_MODELLED = frozenset(("name", "version", "taskToDomain", "workflowDefinition"))

_ENDS = {
    WorkflowStatus.COMPLETED: Status.COMPLETED,
    WorkflowStatus.FAILED: Status.FAILED,
    WorkflowStatus.TERMINATED: Status.CANCELED,
    WorkflowStatus.TIMED_OUT: Status.TIMED_OUT,
}


class SubWorkflow(SystemTask):
    """The child is started in the background, a moment after the step was scheduled."""

    kind = SUB_WORKFLOW
    fields = frozenset(("subWorkflowParam",))
    background = True
    ends_by_itself = False

    def check(self, step: Step, where: str) -> None:
        given = {name for name, value in (step.get("subWorkflowParam") or {}).items() if value is not None}
        if given - _MODELLED:
            raise not_modelled(where, f"subWorkflowParam.{min(given - _MODELLED)}")
        if isinstance(step["subWorkflowParam"].get("workflowDefinition"), str):
            raise not_modelled(where, "subWorkflowParam.workflowDefinition as an expression")

    def problems(self, step: Step) -> Iterator[str]:
        if step.get("subWorkflowParam") is None:
            yield required(step, "subWorkflowParam")

    def rows(self, turn: Turn, step: Step, _retry_count: int) -> list[TaskRow]:
        given = step["subWorkflowParam"]
        definition = given.get("workflowDefinition")
        param = resolve({key: given[key] for key in given if key != "workflowDefinition"}, turn.context())
        row = turn.new_row(step, self.kind, step["name"])
        row.input = {
            "subWorkflowName": definition["name"] if definition else param["name"],
            "subWorkflowVersion": None if definition else param["version"],
            "subWorkflowTaskToDomain": param.get("taskToDomain"),
            "subWorkflowDefinition": definition,
            "priority": None,
            "idempotencyKey": None,
            "idempotencyStrategy": None,
            "workflowInput": turn.resolved(step),
        }
        row.callback_after_seconds = step["startDelay"]
        return [row]

    def start(self, turn: Turn, row: TaskRow) -> None:
        if row.status is not Status.SCHEDULED:
            return
        try:
            child = _child(turn, row)
        except ServiceError as error:
            row.status, row.reason = Status.FAILED, error.detail
            return
        row.reason = None
        row.attached_workflow_id = child.workflow_id
        row.output = {**row.output, "subWorkflowId": child.workflow_id}
        row.status = Status.IN_PROGRESS
        _follow(row, child)

    def execute(self, turn: Turn, row: TaskRow) -> bool:
        child = turn.state.workflows.get(row.sub_workflow_id or "")
        if child is None or not child.status.terminal:
            return False
        _follow(row, child)
        return True

    def ends_with(self, state: State, row: TaskRow) -> str | None:
        return row.sub_workflow_id or state.sub_workflows.get((row.task_id, row.retry_count))


def _child(turn: Turn, row: TaskRow) -> WorkflowRow:
    """The child of this attempt: one that it has already started, unless that has failed (it keeps ids in a rerun).

    One that was removed comes back under its id, which the server makes out of those of the attempt.
    """
    key = (row.task_id, row.retry_count)
    first_id = turn.state.sub_workflows.get(key)
    known = turn.state.workflows.get(first_id or "")
    if known is not None and known.status in (WorkflowStatus.COMPLETED, WorkflowStatus.RUNNING, WorkflowStatus.PAUSED):
        return known
    given = row.input
    definition = given["subWorkflowDefinition"]
    payload = given.get("workflowInput") or given
    child = create_workflow(
        turn.state,
        given["subWorkflowName"],
        {**payload, "_systemMetadata": {"dynamic": True}} if definition else payload,
        version=given["subWorkflowVersion"] or None,
        definition=definition,
        correlation_id=turn.workflow.correlation_id,
        task_to_domain=given["subWorkflowTaskToDomain"] or turn.workflow.task_to_domain,
        parent=row,
        workflow_id=first_id if known is None else None,
    )
    turn.state.sub_workflows.setdefault(key, child.workflow_id)
    turn.state.call_attention(child.workflow_id, decide=True)
    return child


def end_as(row: TaskRow, child: WorkflowRow) -> None:
    """Give the step the status and the output of its child, which has ended."""
    row.status = _ENDS[child.status]
    row.output = {**row.output, **child.output, "subWorkflowId": child.workflow_id}


def _follow(row: TaskRow, child: WorkflowRow) -> None:
    if not child.status.terminal:
        return
    end_as(row, child)
    if row.status is not Status.COMPLETED:
        reason = "null" if child.reason is None else child.reason
        row.reason = f"Sub workflow {child} failure reason: {reason}"
