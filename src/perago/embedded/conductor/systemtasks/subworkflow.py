"""SUB_WORKFLOW: another workflow as one step. The child tells its parent when it ends (`docs/servers/conductor.md` 9).
START_WORKFLOW: another workflow that goes its own way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from perago.embedded.conductor.context import DecisionContext, SystemTask, not_modelled, required
from perago.embedded.conductor.expressions import resolve
from perago.embedded.conductor.rows import Status, TaskRow, WorkflowRow, WorkflowStatus
from perago.embedded.conductor.starting import create_workflow
from perago.embedded.conductor.state import State
from perago.embedded.conductor.steps import Step
from perago.ports import ServiceError

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

    def rows(self, context: DecisionContext, step: Step, _retry_count: int) -> list[TaskRow]:
        given = step["subWorkflowParam"]
        definition = given.get("workflowDefinition")
        param = resolve({key: given[key] for key in given if key != "workflowDefinition"}, context.visible())
        row = context.new_row(step, self.kind, step["name"])
        row.input = {
            "subWorkflowName": definition["name"] if definition else param["name"],
            "subWorkflowVersion": None if definition else param["version"],
            "subWorkflowTaskToDomain": param.get("taskToDomain"),
            "subWorkflowDefinition": definition,
            "priority": None,
            "idempotencyKey": None,
            "idempotencyStrategy": None,
            "workflowInput": context.resolved(step),
        }
        row.callback_after_seconds = step["startDelay"]
        return [row]

    def start(self, context: DecisionContext, row: TaskRow) -> None:
        if row.status is not Status.SCHEDULED:
            return
        try:
            child = _child(context, row)
        except ServiceError as error:
            row.status, row.reason = Status.FAILED, error.detail
            return
        row.reason = None
        row.attached_workflow_id = child.workflow_id
        row.output = {**row.output, "subWorkflowId": child.workflow_id}
        row.status = Status.IN_PROGRESS
        _follow(row, child)

    def execute(self, context: DecisionContext, row: TaskRow) -> bool:
        child = context.state.workflows.get(row.sub_workflow_id or "")
        if child is None or not child.status.terminal:
            return False
        _follow(row, child)
        return True

    def ends_with(self, state: State, row: TaskRow) -> str | None:
        return row.sub_workflow_id or state.sub_workflows.get((row.task_id, row.retry_count))


def _child(context: DecisionContext, row: TaskRow) -> WorkflowRow:
    """The child of this attempt: one that it has already started, unless that has failed (it keeps ids in a rerun).

    One that was removed comes back under its id, which the server makes out of those of the attempt.
    """
    key = (row.task_id, row.retry_count)
    first_id = context.state.sub_workflows.get(key)
    known = context.state.workflows.get(first_id or "")
    if known is not None and known.status in (WorkflowStatus.COMPLETED, WorkflowStatus.RUNNING, WorkflowStatus.PAUSED):
        return known
    given = row.input
    definition = given["subWorkflowDefinition"]
    payload = given.get("workflowInput") or given
    child = create_workflow(
        context.state,
        given["subWorkflowName"],
        {**payload, "_systemMetadata": {"dynamic": True}} if definition else payload,
        version=given["subWorkflowVersion"] or None,
        definition=definition,
        correlation_id=context.workflow.correlation_id,
        task_to_domain=given["subWorkflowTaskToDomain"] or context.workflow.task_to_domain,
        parent=row,
        workflow_id=first_id if known is None else None,
    )
    context.state.sub_workflows.setdefault(key, child.workflow_id)
    context.state.call_attention(child.workflow_id, decide=True)
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


class StartWorkflow(SystemTask):
    """Starts a workflow in the background and completes with its id."""

    kind = "START_WORKFLOW"
    background = True

    def rows(self, context: DecisionContext, step: Step, _retry_count: int) -> list[TaskRow]:
        row = context.new_row(step, self.kind, step["name"])
        row.input = context.resolved(step, row.task_id, templated=True)
        row.callback_after_seconds = step["startDelay"]
        return [row]

    def start(self, context: DecisionContext, row: TaskRow) -> None:
        given: Any = row.input.get("startWorkflow")
        if not isinstance(given, dict):
            row.status, row.reason = Status.FAILED, "Missing 'startWorkflow' in input data."
            return
        if given.get("workflowDef"):
            raise not_modelled(f"task {row.reference_name}", "startWorkflow.workflowDef")
        try:
            started = create_workflow(
                context.state,
                str(given.get("name")),
                given.get("input"),
                version=given.get("version"),
                correlation_id=given.get("correlationId") or context.workflow.correlation_id,
                priority=given.get("priority") or 0,
                task_to_domain=given.get("taskToDomain"),
            )
        except ServiceError as error:
            row.status, row.reason = Status.FAILED, error.detail
            return
        context.state.call_attention(started.workflow_id, decide=True)
        row.output = {"workflowId": started.workflow_id}
        row.status = Status.COMPLETED
