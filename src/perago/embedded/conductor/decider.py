"""Starting, deciding and ending workflows.

This works on copies of the rows. They are stored unless the workflow completes with this decision: the last row of a
completed workflow never shows the check, and an optional last step keeps its FAILED. Work of the server's own tasks
within a decision leads to another decision immediately.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from perago.conductor_json import every_step
from perago.embedded.conductor import wire
from perago.embedded.conductor.context import (
    DecisionContext,
    SystemTask,
    Termination,
    automatic_retry,
    check_response_timeout,
    check_task_timeouts,
    check_total_budget,
    check_workflow_timeout,
    expression_context,
    system_task,
)
from perago.embedded.conductor.definitions import with_defaults
from perago.embedded.conductor.expressions import java_text, resolve
from perago.embedded.conductor.state import (
    HistoryEvent,
    State,
    Status,
    Step,
    TaskRow,
    WorkflowRow,
    WorkflowStatus,
    following,
    with_iteration,
    without_iteration,
)
from perago.embedded.conductor.views import failed_workflow_json

OPERATION = "start workflow"


def workflow_definition(state: State, operation: str, name: str, version: int | None, detail: str) -> dict[str, Any]:
    """Return the definition of that version, or of the highest one, or raise a 404 with `detail`."""
    versions = state.workflow_definitions.get(name) or {}
    definition = versions.get(max(versions) if versions and version is None else version or 0)
    if definition is None:
        raise wire.not_found(operation, detail)
    return definition


def create_workflow(
    state: State,
    name: str,
    payload: Mapping[str, Any] | None,
    *,
    version: int | None = None,
    definition: Mapping[str, Any] | None = None,
    correlation_id: str | None = None,
    priority: int = 0,
    task_to_domain: Mapping[str, str] | None = None,
    parent: TaskRow | None = None,
    starter: WorkflowRow | None = None,
    workflow_id: str | None = None,
) -> WorkflowRow:
    """Return a running workflow without scheduled steps.

    It keeps the current task definitions. `definition` is parsed, and need not be registered. `parent` is the attempt
    of the parent workflow. `starter` is the workflow that starts it. `workflow_id` is a reused id, if there is one.
    """
    if definition is None:
        shown = "null" if version is None else version
        detail = f"No such workflow defined. name={name}, version={shown}"
        definition = workflow_definition(state, OPERATION, name, version, detail)
    own, workflow_input = wire.copied(dict(definition)), wire.through_json(OPERATION, payload, what="input")
    if workflow_input:  # the template fills what is missing or null in an input that is not empty
        template = own["inputTemplate"].items()
        workflow_input |= wire.copied({key: value for key, value in template if workflow_input.get(key) is None})
    snapshot_definitions(state, own)
    workflow = WorkflowRow(
        workflow_id=workflow_id or state.new_id(),
        definition=own,
        input=workflow_input,
        create_time=state.now(),
        priority=priority,
        correlation_id=correlation_id,
        parent_id=parent.workflow_id if parent else None,
        parent_task_id=parent.task_id if parent else None,
        task_to_domain=dict(task_to_domain or {}),
        variables=wire.copied(own["variables"]),
        origin=None if starter is None else starter.origin or starter.workflow_id,
    )
    if (size := wire.size_of(workflow.input)) > wire.MAX_BYTES:
        limit = f"the permissible limit: {wire.MAX_BYTES} bytes"
        detail = f"The payload size: {size} of workflow: {workflow.workflow_id} is greater than {limit}"
        raise wire.server_error(OPERATION, detail)
    state.workflows[workflow.workflow_id] = workflow
    return workflow


def snapshot_definitions(state: State, definition: dict[str, Any]) -> None:
    """Give every step its current task definition, and a sub-workflow its current version."""
    for step in every_step(definition["tasks"]):
        if step.get("taskDefinition") is None:
            step["taskDefinition"] = task_definition(state, step)
        param = step.get("subWorkflowParam")
        if param is not None and param.get("version") is None and param.get("workflowDefinition") is None:
            versions = state.workflow_definitions.get(param["name"])
            if not versions:
                detail = f"The Task {param['name']} defined as a sub-workflow has no workflow definition available "
                raise wire.server_error(OPERATION, detail)
            param["version"] = max(versions)


def task_definition(state: State, step: Step) -> dict[str, Any]:
    """Return the registered definition, or the default. The default of the server's own tasks has no retries and no
    timeouts."""
    known = state.task_definitions.get(step["name"])
    if known is not None:
        return wire.copied(known)
    default = wire.without_nulls(with_defaults({"name": step["name"]}))
    return default if step["type"] == "SIMPLE" else {**default, "retryCount": 0, "responseTimeoutSeconds": 0}


FAILURE_OUTPUT = "conductor.failure_workflow"
"""The output field of a failed workflow for the id of the one that was started for it, or why none was."""


FAILURE_WEIGHT = 4
"""The starts that one of a failure workflow counts as: its input holds the failed workflow, whose input can hold
others."""


def end_workflow(
    state: State,
    workflow: WorkflowRow,
    status: WorkflowStatus,
    reason: str | None,
    tasks: Sequence[TaskRow] | None = None,
) -> None:
    """End `workflow` unsuccessfully and cancel all open steps, children included.

    `tasks` are working copies that are newer than the stored rows.
    """
    _run(_ending(state, workflow, status, reason, tasks))


Work: TypeAlias = Generator["Work"]
"""The end of a workflow, which yields the ends of its sub-workflows, to be run first."""


def _run(work: Work) -> None:
    """Run the end of a workflow. Sub-workflows can be nested more deeply than Python's stack allows."""
    stack = [work]
    while stack:
        inner = next(stack[-1], None)
        if inner is None:
            stack.pop()
        else:
            stack.append(inner)


def _ending(
    state: State,
    workflow: WorkflowRow,
    status: WorkflowStatus,
    reason: str | None,
    tasks: Sequence[TaskRow] | None = None,
) -> Work:
    rows = [row.copy() for row in workflow.tasks] if tasks is None else tasks
    workflow.status = status
    workflow.output = _output(workflow, rows)
    _note_failures(workflow, rows)
    workflow.reason = reason
    yield from _canceling(state, workflow, rows)
    state.store_workflow(workflow)
    for row in rows:
        state.queue.remove(row.task_id)
    _update_parent(state, workflow)


def fail_workflow(
    state: State,
    workflow: WorkflowRow,
    status: WorkflowStatus,
    reason: str | None,
    tasks: Sequence[TaskRow],
    cause: TaskRow | None,
) -> None:
    """End `workflow` because of an event in it, and start its failure workflow, if it has one."""
    if cause is not None:
        state.store(cause, HistoryEvent.CHANGED)
    before = workflow.status
    end_workflow(state, workflow, status, reason, tasks)
    _start_failure_workflow(state, workflow, before, cause)


def _start_failure_workflow(state: State, workflow: WorkflowRow, before: WorkflowStatus, cause: TaskRow | None) -> None:
    """Start the failure workflow in the definition of a failed workflow. `cause` is the attempt that ended it."""
    name = workflow.definition.get("failureWorkflow")
    if not name:
        return
    payload: dict[str, Any] = {
        **workflow.input,
        "workflowId": workflow.workflow_id,
        "reason": workflow.reason,
        "failureStatus": workflow.status.value,
        "failedWorkflow": failed_workflow_json(workflow, state.now(), before=before, cause=cause),
    }
    if cause is not None:
        payload["failureTaskId"] = cause.task_id
    version = workflow.definition.get("failureWorkflowVersion")
    try:
        rescue = create_workflow(
            state,
            name,
            payload,
            version=version,
            correlation_id=workflow.correlation_id,
            task_to_domain=workflow.task_to_domain,
            starter=workflow,
        )
    except wire.NoSuchEntity as error:
        outcome = f"Error workflow {name} failed to start.  reason: {error.detail}"
    else:
        outcome = rescue.workflow_id
        due = state.next_start(workflow, FAILURE_WEIGHT)
        if due > state.now():
            state.timers[outcome] = due
        else:
            state.call_attention(outcome, decide=True)
    workflow.output = {**workflow.output, FAILURE_OUTPUT: outcome}
    state.store_workflow(workflow)


def complete_workflow(state: State, workflow: WorkflowRow, tasks: Sequence[TaskRow]) -> None:
    """Complete `workflow`."""
    workflow.output = _output(workflow, tasks)
    workflow.status = WorkflowStatus.COMPLETED
    _note_failures(workflow, tasks)
    state.store_workflow(workflow)
    _update_parent(state, workflow)


def end_by_task(state: State, workflow: WorkflowRow, row: TaskRow, tasks: Sequence[TaskRow]) -> None:
    """End `workflow` as its TERMINATE task says, even if steps are still open.

    The input of a rerun can be anything. Without a failure in it, the workflow completes.
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
    """Cancel all open steps. A sub-workflow ends with its step."""
    _run(_canceling(state, workflow, tasks))


def _canceling(state: State, workflow: WorkflowRow, tasks: Sequence[TaskRow]) -> Work:
    for row in tasks:
        if row.status.terminal:
            continue
        row.status = Status.CANCELED
        task = system_task(row)
        child = state.workflows.get((task.ends_with(state, row) if task else None) or "")
        if child is not None:
            with_what = f"reason: {workflow.reason}" if workflow.reason else f"status {workflow.status}"
            reason = f"Parent workflow has been terminated with {with_what}"
            yield _ending(state, child, WorkflowStatus.TERMINATED, reason)
        state.store(row, HistoryEvent.CHANGED)


def _update_parent(state: State, workflow: WorkflowRow) -> None:
    """Update the parent's step that runs this workflow, and let the parent be decided."""
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
    """Return the row that has ended the workflow on its own, or None."""
    ending = ((row, system_task(row)) for row in tasks if row.status is Status.COMPLETED)
    return next((row for row, task in ending if task is not None and task.ends_workflow), None)


def _note_failures(workflow: WorkflowRow, tasks: Sequence[TaskRow]) -> None:
    failed = [row for row in tasks if row.status in (Status.FAILED, Status.FAILED_WITH_TERMINAL_ERROR)]
    references = [*workflow.failed_references, *(row.reference_name for row in failed)]
    workflow.failed_references = list(dict.fromkeys(references))
    workflow.failed_tasks = list(dict.fromkeys([*workflow.failed_tasks, *(row.task_name for row in failed)]))


def _output(workflow: WorkflowRow, tasks: Sequence[TaskRow]) -> dict[str, Any]:
    """Return the output of a TERMINATE task, else `outputParameters` if the definition has them, else the output of the
    last row."""
    if not tasks:
        return workflow.output
    ended = terminating(tasks)
    if ended is not None:
        return ended.output
    parameters = workflow.definition["outputParameters"]
    if parameters:
        return dict(resolve(parameters, expression_context(workflow, tasks)))
    return tasks[-1].output


@dataclass(slots=True)
class _Decision:
    changed: list[TaskRow] = field(default_factory=list)
    rows_to_advance: dict[str, TaskRow] = field(default_factory=dict)
    """The rows to schedule or to continue, by reference name."""
    executed: set[str] = field(default_factory=set)
    """Reference names that are finished."""
    complete: bool = False

    @property
    def rows(self) -> list[TaskRow]:
        return [row for name, row in self.rows_to_advance.items() if name not in self.executed]


def decide(state: State, workflow: WorkflowRow) -> None:
    """Advance `workflow` as far as possible. In a finished workflow no step may be open."""
    context = DecisionContext.of(state, workflow)
    if workflow.status.terminal:
        if workflow.status is not WorkflowStatus.COMPLETED:
            cancel_open_tasks(state, workflow, context.tasks)
        return
    _reopen_failed_joins(context)
    try:
        while _round(context):
            pass
    except Termination as end:
        fail_workflow(state, workflow, end.status, end.reason, context.tasks, end.row)
    except NotImplementedError as error:
        # The call answers 501 by name, and the sweeper does not decide the workflow again and again.
        end_workflow(state, workflow, WorkflowStatus.FAILED, str(error), context.tasks)
        raise


def _reopen_failed_joins(context: DecisionContext) -> None:
    """A sub-workflow that was revived may be one that a failed JOIN waits for."""
    changed = next((row for row in context.tasks if row.sub_workflow_changed and not row.retried), None)
    if changed is None:
        return
    changed.sub_workflow_changed = False
    context.state.store(changed, HistoryEvent.CHANGED)
    for row in context.tasks:
        task = system_task(row)
        if task is not None and task.joins and row.status.unsuccessful:
            row.status = Status.IN_PROGRESS
            context.state.enqueue(row)
            context.state.store(row, HistoryEvent.CHANGED)


def _round(context: DecisionContext) -> bool:
    """Decide once, and carry out the decision. Return whether it needs another decision.

    Raises:
        Termination: the workflow ends unsuccessfully.
    """
    decision = _evaluate(context)
    if decision.complete:
        ending = terminating(context.tasks)
        if ending is None:
            complete_workflow(context.state, context.workflow, context.tasks)
        else:
            end_by_task(context.state, context.workflow, ending, context.tasks)
        return False
    rows = decision.rows
    context.choose_domains(rows)
    fresh = context.add(rows)
    again = context.schedule(fresh)
    for row in rows:
        task = None if row.status.terminal else system_task(row)
        if task is not None and not task.background and task.execute(context, row):
            decision.changed.append(row)
            again = True
    for row in decision.changed:
        context.state.store(row, HistoryEvent.CHANGED)
    if not again and (decision.changed or fresh):
        context.state.store_workflow(context.workflow)
    return again


def _evaluate(context: DecisionContext) -> _Decision:
    """Decide which rows to add and to change."""
    check_workflow_timeout(context.workflow, context.state.now())
    decision = _Decision()
    if context.workflow.status is WorkflowStatus.PAUSED:
        return decision
    if all(row.executed or row.status is Status.SKIPPED for row in context.tasks):
        steps = context.workflow.definition["tasks"]
        first = next((step for step in steps if not _is_skipped(context, step["taskReferenceName"])), None)
        rows = [] if first is None else context.rows_for(first)
        decision.rows_to_advance = {row.reference_name: row for row in rows}
    terminated = terminating(context.tasks) is not None
    decision.executed = {row.reference_name for row in context.tasks if row.executed}
    for row in list(context.tasks):
        if not (row.retried or row.executed or row.status is Status.SKIPPED):
            _evaluate_task(context, row, decision)
    decision.complete = terminated or (not decision.rows and _all_done(context))
    if decision.complete:
        _check_permissive_steps(context.tasks)
    return decision


def _check_permissive_steps(tasks: Sequence[TaskRow]) -> None:
    """Raises `Termination` instead of completing a workflow in which the last attempt of a permissive step failed."""
    last: dict[str, TaskRow] = {}
    for row in filter(lambda row: row.is_permissive, tasks):
        known = last.get(row.reference_name)
        if known is None or row.retry_count >= known.retry_count:
            last[row.reference_name] = row
    reasons = [
        f"Task {row.task_id} failed with status: {row.status} and reason: '{row.reason or 'null'}'"
        for row in last.values()
        if row.status.unsuccessful
    ]
    if reasons:
        raise Termination(". ".join(reasons))


def _is_skipped(context: DecisionContext, reference: str) -> bool:
    row = context.latest(reference)
    return row is not None and row.status is Status.SKIPPED


def _evaluate_task(context: DecisionContext, row: TaskRow, decision: _Decision) -> None:
    task = system_task(row)
    if task is not None and not row.status.terminal:
        decision.rows_to_advance.setdefault(row.reference_name, row)
        decision.executed.discard(row.reference_name)
    check_task_timeouts(row, context.state.now())
    if task is None or task.ends_by_itself:
        check_response_timeout(row, context.state.now())
    if row.status.unsuccessful:
        if _may_retry(context.state, row, task):
            fresh = automatic_retry(context.state, context.workflow, row, context.tasks)
            decision.rows_to_advance[fresh.reference_name] = fresh
            decision.executed.discard(fresh.reference_name)
            decision.changed.append(row)
            return
        if not row.is_permissive:
            row.status = Status.COMPLETED_WITH_ERRORS
    if row.status.terminal:
        row.executed = True
        decision.changed.append(row)
        for fresh in _next_rows(context, row):
            decision.rows_to_advance.setdefault(fresh.reference_name, fresh)


def _may_retry(state: State, row: TaskRow, task: SystemTask | None) -> bool:
    """Return True to retry. Return False to continue without the step, because it is optional or permissive.

    Raises:
        Termination: neither.
    """
    retriable = row.status.retriable and (task is None or task.retriable)
    if retriable and row.retry_count < row.retry_budget:
        check_total_budget(row, state.now())
        return True
    if row.workflow_task["optional"] or row.is_permissive:
        return False
    ends = {Status.CANCELED: WorkflowStatus.TERMINATED, Status.TIMED_OUT: WorkflowStatus.TIMED_OUT}
    status = ends.get(row.status, WorkflowStatus.FAILED)
    reason = "null" if row.reason is None else row.reason
    raise Termination(f"Task {row.task_id} failed with status: {status} and reason: '{reason}'", status, row)


def _next_rows(context: DecisionContext, row: TaskRow) -> list[TaskRow]:
    """Return the rows after a finished one, in the same iteration of the loop that it is in."""
    task = system_task(row)
    if task is not None and not task.has_successor(row):
        return []
    steps = context.workflow.definition["tasks"]
    step = following(steps, without_iteration(row.reference_name) if row.iteration else row.reference_name)
    while step is not None and _is_skipped(context, step["taskReferenceName"]):
        step = following(steps, step["taskReferenceName"])
    if step is None:
        return []
    rows = context.rows_for(step)
    if row.iteration == 0 or (task is not None and task.iterates):
        return rows
    for fresh in rows:
        fresh.reference_name = with_iteration(fresh.reference_name, row.iteration)
        fresh.iteration = row.iteration
    begun = {known.reference_name for known in context.tasks if known.status is not Status.SCHEDULED}
    return [fresh for fresh in rows if fresh.reference_name not in begun]


def _all_done(context: DecisionContext) -> bool:
    """Whether no step is open, every step of the top level exists, and no step follows the completed ones."""
    steps = context.workflow.definition["tasks"]
    present = {row.reference_name for row in context.tasks}
    if not context.tasks or not all(row.status.terminal for row in context.tasks):
        return False
    if not {step["taskReferenceName"] for step in steps} <= present:
        return False
    after = [following(steps, row.reference_name) for row in context.tasks if not (row.retried and row.executed)]
    return all(step["taskReferenceName"] in present for step in after if step is not None)
