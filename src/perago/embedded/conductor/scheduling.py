"""How the attempts of workers come into being: the first of a step, an automatic retry, a manual retry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perago.embedded.conductor.expressions import resolve
from perago.embedded.conductor.rows import Status, TaskRow, WorkflowRow
from perago.embedded.conductor.state import State
from perago.embedded.conductor.steps import without_iteration
from perago.embedded.conductor.timers import jitter_ms, retry_delay_seconds
from perago.embedded.conductor.views import in_camel_case


def expression_context(workflow: WorkflowRow, tasks: Sequence[TaskRow]) -> dict[str, Any]:
    """What `${...}` can see: the workflow, and the latest attempt of each step, in a loop of its latest iteration."""
    context: dict[str, Any] = {
        "workflow": {
            "input": workflow.input,
            "output": workflow.output,
            "status": workflow.status.value,
            "workflowId": workflow.workflow_id,
            "parentWorkflowId": workflow.parent_id,
            "parentWorkflowTaskId": workflow.parent_task_id,
            "workflowType": workflow.name,
            "version": workflow.version,
            "correlationId": workflow.correlation_id,
            "reasonForIncompletion": workflow.reason,
            "schemaVersion": 2,
            "variables": workflow.variables,
        }
    }
    latest = {_visible_name(row): row for row in tasks}
    return context | {name: _task_context(row) for name, row in latest.items()}


def _visible_name(row: TaskRow) -> str:
    return without_iteration(row.reference_name) if row.iteration else row.reference_name


_OF_TASK = in_camel_case(
    *("input", "output", "task_type", "status", "retry_count", "correlation_id", "poll_count", "scheduled_time"),
    *("start_time", "end_time", "task_id", "callback_after_seconds", "worker_id", "iteration"),
)


def _task_context(row: TaskRow) -> dict[str, Any]:
    return {
        **_OF_TASK(row),
        "taskDefName": row.task_name,
        "referenceTaskName": row.reference_name,
        "workflowInstanceId": row.workflow_id,
        "reasonForIncompletion": row.reason,
    }


def task_input(
    workflow_task: Mapping[str, Any], definition: Mapping[str, Any], context: Mapping[str, Any], task_id: str
) -> dict[str, Any]:
    """The input of an attempt. `inputTemplate` fills keys whose value is missing or null."""
    template = definition["inputTemplate"]
    resolved = dict(resolve({**template, **workflow_task["inputParameters"]}, context, task_id))
    return {key: template.get(key) if value is None else value for key, value in resolved.items()}


def first_attempt(
    state: State, workflow: WorkflowRow, workflow_task: dict[str, Any], tasks: Sequence[TaskRow], retry_count: int
) -> TaskRow:
    """The first attempt of a step, with the definition that the workflow was started with.

    Its retry count is 0 but for the steps of a retried loop.
    """
    row = new_row(state, workflow, workflow_task, workflow_task["name"], workflow_task["name"])
    definition = row.definition
    row.retry_count = retry_count
    row.input = task_input(workflow_task, definition, expression_context(workflow, tasks), row.task_id)
    row.start_delay_seconds = row.callback_after_seconds = workflow_task["startDelay"]
    row.response_timeout_seconds = definition["responseTimeoutSeconds"]
    row.rate_limit = (definition["rateLimitPerFrequency"], definition["rateLimitFrequencyInSeconds"])
    return row


def new_row(
    state: State, workflow: WorkflowRow, workflow_task: dict[str, Any], task_type: str, task_name: str
) -> TaskRow:
    """A row of a step, with an id and nothing in it."""
    return TaskRow(
        task_id=state.new_id(),
        workflow_id=workflow.workflow_id,
        workflow_name=workflow.name,
        task_type=task_type,
        task_name=task_name,
        reference_name=workflow_task["taskReferenceName"],
        definition=workflow_task["taskDefinition"],
        workflow_task=workflow_task,
        priority=workflow.priority,
        correlation_id=workflow.correlation_id,
        input={},
    )


def automatic_retry(state: State, workflow: WorkflowRow, row: TaskRow, tasks: Sequence[TaskRow]) -> TaskRow:
    """The attempt after `row`: delayed, with the reason of its predecessor and a recomputed input."""
    fresh = _successor(state, workflow, row, tasks)
    delay = retry_delay_seconds(row)
    fresh.start_delay_seconds = fresh.callback_after_seconds = delay
    fresh.callback_after_ms = delay * 1000 + jitter_ms(row, state.random)
    fresh.reason = row.reason
    row.retried = True
    return fresh


def manual_retry(state: State, workflow: WorkflowRow, row: TaskRow, tasks: Sequence[TaskRow]) -> TaskRow:
    """The attempt after `row` by `/retry`: it starts immediately. `row` shows the recomputed input, too.

    The attempt after a permissive failure counts as executed, as on the server: it has no retries and no timeouts.
    """
    fresh = _successor(state, workflow, row, tasks)
    fresh.executed = row.executed
    fresh.callback_after_seconds = fresh.callback_after_ms = 0
    fresh.reason = None
    row.input = fresh.input
    row.retried = row.executed = True
    return fresh


def _successor(state: State, workflow: WorkflowRow, row: TaskRow, tasks: Sequence[TaskRow]) -> TaskRow:
    fresh = row.copy()
    fresh.task_id = state.new_id()
    fresh.retried_task_id = row.task_id
    fresh.retry_count = row.retry_count + 1
    fresh.status = Status.SCHEDULED
    fresh.retried = fresh.executed = False
    fresh.seq = fresh.poll_count = 0
    fresh.scheduled_time = fresh.start_time = fresh.update_time = fresh.end_time = 0
    fresh.worker_id = fresh.attached_workflow_id = None
    fresh.output, fresh.external_output, fresh.external_input = {}, None, None
    context = expression_context(workflow, tasks)
    fresh.input = row.input | task_input(row.workflow_task, row.definition, context, fresh.task_id)
    return fresh
