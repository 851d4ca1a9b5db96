"""Deciding a workflow: time-outs, retries, the next steps, the end.

It happens on copies of the rows. They are stored unless the workflow completes with this decision: the last row of a
completed workflow never shows that it was looked at, and an optional last step keeps its FAILED. What the server's own
tasks do within a decision leads to another one at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from perago.embedded.conductor.context import DecisionContext, SystemTask, system_task
from perago.embedded.conductor.ending import (
    cancel_open_tasks,
    complete_workflow,
    end_by_task,
    fail_workflow,
    terminating,
)
from perago.embedded.conductor.rows import Status, TaskRow, WorkflowRow, WorkflowStatus
from perago.embedded.conductor.scheduling import automatic_retry
from perago.embedded.conductor.state import HistoryEvent, State
from perago.embedded.conductor.steps import following, with_iteration, without_iteration
from perago.embedded.conductor.timers import (
    Termination,
    check_response_timeout,
    check_task_timeouts,
    check_total_budget,
    check_workflow_timeout,
)


@dataclass(slots=True)
class _Decision:
    changed: list[TaskRow] = field(default_factory=list)
    wanted: dict[str, TaskRow] = field(default_factory=dict)
    """What to schedule or to continue, by reference name."""
    executed: set[str] = field(default_factory=set)
    """Reference names that are done with."""
    complete: bool = False

    @property
    def rows(self) -> list[TaskRow]:
        return [row for name, row in self.wanted.items() if name not in self.executed]


def decide(state: State, workflow: WorkflowRow) -> None:
    """Bring `workflow` as far as it can go now; in a finished one nothing may be open."""
    context = DecisionContext.of(state, workflow)
    if workflow.status.terminal:
        if workflow.status is not WorkflowStatus.COMPLETED:
            cancel_open_tasks(state, workflow, context.tasks)
        return
    _look_at_joins_again(context)
    try:
        while _round(context):
            pass
    except Termination as end:
        fail_workflow(state, workflow, end.status, end.reason, context.tasks, end.row)


def _look_at_joins_again(context: DecisionContext) -> None:
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
    """Decide once, and do what was decided; whether that calls for another decision.

    Raises:
        Termination: the workflow ends unsuccessfully.
    """
    decision = _evaluate(context)
    if decision.complete:
        _end(context)
        return False
    rows = decision.rows
    context.choose_domains(rows)
    fresh = context.add(rows)
    again = context.schedule(fresh)
    for row in rows:
        task = _executable(row)
        if task is not None and task.execute(context, row):
            decision.changed.append(row)
            again = True
    for row in decision.changed:
        context.state.store(row, HistoryEvent.CHANGED)
    if not again and (decision.changed or fresh):
        context.state.store_workflow(context.workflow)
    return again


def _executable(row: TaskRow) -> SystemTask | None:
    task = system_task(row)
    return None if task is None or task.background or row.status.terminal else task


def _end(context: DecisionContext) -> None:
    ending = terminating(context.tasks)
    if ending is None:
        complete_workflow(context.state, context.workflow, context.tasks)
    else:
        end_by_task(context.state, context.workflow, ending, context.tasks)


def _evaluate(context: DecisionContext) -> _Decision:
    """What to change."""
    check_workflow_timeout(context.workflow, context.state.now())
    decision = _Decision()
    if context.workflow.status is WorkflowStatus.PAUSED:
        return decision
    if all(row.executed or row.status is Status.SKIPPED for row in context.tasks):
        decision.wanted = {row.reference_name: row for row in _beginning(context)}
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
        raise Termination(". ".join(reasons), WorkflowStatus.FAILED)


def _beginning(context: DecisionContext) -> list[TaskRow]:
    steps = context.workflow.definition["tasks"]
    first = next((step for step in steps if not _is_skipped(context, step["taskReferenceName"])), None)
    return [] if first is None else context.rows_for(first)


def _is_skipped(context: DecisionContext, reference: str) -> bool:
    row = context.latest(reference)
    return row is not None and row.status is Status.SKIPPED


def _evaluate_task(context: DecisionContext, row: TaskRow, decision: _Decision) -> None:
    task = system_task(row)
    if task is not None and not row.status.terminal:
        decision.wanted.setdefault(row.reference_name, row)
        decision.executed.discard(row.reference_name)
    check_task_timeouts(row, context.state.now())
    if task is None or task.ends_by_itself:
        check_response_timeout(row, context.state.now())
    if row.status.unsuccessful:
        if _may_retry(context.state, row, task):
            fresh = automatic_retry(context.state, context.workflow, row, context.tasks)
            decision.wanted[fresh.reference_name] = fresh
            decision.executed.discard(fresh.reference_name)
            decision.changed.append(row)
            return
        if not row.is_permissive:
            row.status = Status.COMPLETED_WITH_ERRORS
    if row.status.terminal:
        row.executed = True
        decision.changed.append(row)
        for fresh in _next_rows(context, row):
            decision.wanted.setdefault(fresh.reference_name, fresh)


def _may_retry(state: State, row: TaskRow, task: SystemTask | None) -> bool:
    """True: retry. False: continue without it, because the step is optional or permissive.

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
    """What comes after a finished row, in the same iteration of the loop that it is in."""
    task = system_task(row)
    if task is not None and not task.leads_on(row):
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
    """Nothing is open, every step of the top level is there, and nothing comes after what is done."""
    steps = context.workflow.definition["tasks"]
    present = {row.reference_name for row in context.tasks}
    if not context.tasks or not all(row.status.terminal for row in context.tasks):
        return False
    if not {step["taskReferenceName"] for step in steps} <= present:
        return False
    after = [following(steps, row.reference_name) for row in context.tasks if not (row.retried and row.executed)]
    return all(step["taskReferenceName"] in present for step in after if step is not None)
