"""Operations on workflows: end, pause, remove, skip, retry, restart and rerun; and the work of the server itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from loguru import logger

from perago.conductor_json import every_step
from perago.embedded.conductor import schedules, wire
from perago.embedded.conductor.branching import DynamicFork
from perago.embedded.conductor.context import (
    DecisionContext,
    SystemTask,
    Termination,
    manual_retry,
    new_row,
    system_task,
)
from perago.embedded.conductor.decider import decide, end_workflow, snapshot_definitions, workflow_definition
from perago.embedded.conductor.state import (
    HistoryEvent,
    State,
    Status,
    TaskRow,
    WorkflowRow,
    WorkflowStatus,
    holds,
)
from perago.embedded.conductor.system_tasks import SUB_WORKFLOW, end_as


def terminate(state: State, workflow: WorkflowRow, reason: str | None) -> None:
    """End a workflow manually. Open attempts become CANCELED. A TERMINATED workflow does not change."""
    if workflow.status is WorkflowStatus.COMPLETED:
        raise wire.conflict("terminate workflow", "Cannot terminate a COMPLETED workflow.")
    if workflow.status is not WorkflowStatus.TERMINATED:
        end_workflow(state, workflow, WorkflowStatus.TERMINATED, reason)


def pause(state: State, workflow: WorkflowRow) -> None:
    """Stop scheduling. Queued attempts are still handed out, and results are still accepted
    (`docs/dev/servers/conductor.md`, "Attempt state machine")."""
    if workflow.status.terminal:
        raise wire.conflict("pause workflow", f"Workflow {workflow} has ended, status cannot be updated.")
    if workflow.status is not WorkflowStatus.PAUSED:
        workflow.status = WorkflowStatus.PAUSED
        state.store_workflow(workflow)


def resume(state: State, workflow: WorkflowRow) -> None:
    """Continue, and process the events of the pause."""
    if workflow.status is not WorkflowStatus.PAUSED:
        state_of = f"is not PAUSED so cannot resume. Current status is {workflow.status}"
        raise wire.server_error("resume workflow", f"The workflow {workflow.workflow_id} {state_of}")
    workflow.status = WorkflowStatus.RUNNING
    workflow.last_retried_time = state.now()
    state.store_workflow(workflow)
    decide(state, workflow)


def reset_callbacks(state: State, workflow: WorkflowRow) -> None:
    """Make delayed attempts pollable now."""
    if workflow.status.terminal:
        detail = f"Workflow is in terminal state. Status = {workflow.status}"
        raise wire.conflict("reset callbacks", detail)
    for row in [row.copy() for row in workflow.tasks]:
        if row.kind == "SIMPLE" and row.status is Status.SCHEDULED and row.callback_after_seconds > 0:
            row.callback_after_seconds = row.callback_after_ms = 0
            state.enqueue(row)
            state.store(row, HistoryEvent.CHANGED)


def remove(state: State, workflow: WorkflowRow, *, archive: bool) -> None:
    """Forget a workflow and its attempts. To `archive` it, it must have ended. There is no readable archive."""
    if archive and not workflow.status.terminal:
        detail = f"Cannot archive workflow: {workflow.workflow_id} with status: {workflow.status}"
        raise wire.bad_request("remove workflow", detail)
    _remove_all_tasks(state, workflow)
    del state.workflows[workflow.workflow_id]


def skip(state: State, workflow: WorkflowRow, reference_name: str) -> None:
    """Insert a finished row for a step, in front of all others.

    Raises:
        ServerError: the workflow does not run, has no such step, or has begun it already (500).
        NotImplementedError: a step of a loop, which skips nothing, but can make the real server decide without end.
    """
    if workflow.status is not WorkflowStatus.RUNNING:
        problem = f"is not running so the task referenced by {reference_name} cannot be skipped"
        raise wire.server_error("skip task", f"The workflow {workflow.workflow_id} {problem}")
    steps = {step["taskReferenceName"]: step for step in every_step(workflow.definition["tasks"])}
    if reference_name not in steps:
        problem = f"does not exist in the WorkflowDefinition {workflow.name}"
        raise wire.server_error("skip task", f"The task referenced by {reference_name} {problem}")
    if any(row.reference_name == reference_name for row in workflow.tasks):
        problem = "has already been processed, cannot be skipped"
        raise wire.server_error("skip task", f"The task referenced {reference_name} {problem}")
    loops = [step for step in steps.values() if step["type"] == "DO_WHILE"]
    if any(holds(loop, reference_name) for loop in loops):
        raise wire.not_modelled(f"workflow {workflow.name}", f"skipping {reference_name}, which is part of a loop,")
    name = steps[reference_name]["name"]
    row = new_row(state, workflow, {**steps[reference_name], "taskDefinition": {}}, name, name)
    del row.workflow_task["taskDefinition"]
    row.workflow_name, row.status = "", Status.SKIPPED
    row.scheduled_time = row.end_time = state.now()
    state.place(workflow, row)
    decide(state, workflow)


def retry(state: State, workflow: WorkflowRow, *, resume_sub_workflows: bool = False) -> None:
    """Start new attempts for the steps whose last attempt failed. They use the automatic budget.

    A JOIN or a loop keeps its row. A sub-workflow is started again, unless `resume_sub_workflows` asks for a retry of
    its failed steps.
    """
    if not workflow.status.terminal:
        raise wire.not_found("retry workflow", f"Workflow is still running.  status={workflow.status}")
    if not workflow.tasks:
        raise wire.conflict("retry workflow", "Workflow has not started yet")
    failed = next((row for row in workflow.tasks if row.status.unsuccessful), None)
    if resume_sub_workflows:
        if failed is None:
            return
        workflow = _where_it_failed(state, workflow, failed)
    retry_steps(state, workflow)
    revive_parents(state, workflow, "retried")
    decide(state, workflow)


def _where_it_failed(state: State, workflow: WorkflowRow, failed: TaskRow) -> WorkflowRow:
    """Return the nested workflow whose failure was the first cause.

    Raises:
        NoSuchEntity: a step on the way no longer knows its child, or the child was removed (404).
    """
    row: TaskRow | None = failed
    if failed.kind == "DO_WHILE":
        inner = (other for other in workflow.tasks if other.kind == SUB_WORKFLOW and other.status.unsuccessful)
        row = next(inner, None)
    if row is None or row.kind != SUB_WORKFLOW:
        return workflow
    child = state.workflow("retry workflow", row.sub_workflow_id or "null")
    cause = next((other for other in child.tasks if other.status.unsuccessful), None)
    return workflow if cause is None else _where_it_failed(state, child, cause)


def retry_steps(state: State, workflow: WorkflowRow) -> None:
    """Schedule the steps of one workflow that failed, and let it run; it is not decided yet."""
    context = DecisionContext.of(state, workflow)
    resumed, failed = _failed_steps(context)
    if not failed and workflow.status is not WorkflowStatus.TIMED_OUT:
        advice = "Use restart if you want to attempt entire workflow execution again."
        raise wire.conflict("retry workflow", f"There are no retryable tasks! {advice}")
    workflow.status, workflow.reason = WorkflowStatus.RUNNING, None
    workflow.last_retried_time = state.now()
    state.store_workflow(workflow)
    state.between_writes()
    fresh = [_retried(context, row) for row in sorted(failed, key=lambda row: row.seq)]
    context.add(fresh)
    for row in [*resumed, *failed]:
        _store(state, row)
    for row in fresh:
        row.update_time = state.now()
    context.schedule(fresh)
    state.between_writes()


def _failed_steps(context: DecisionContext) -> tuple[list[TaskRow], list[TaskRow]]:
    """Return the rows that are resumed, and the rows to retry: the last unfinished ones of their steps."""
    resumed: list[TaskRow] = []
    failed: dict[str, TaskRow] = {}
    for row in context.tasks:
        task = system_task(row)
        if task is not None and task.resumes and (row.status is Status.CANCELED or _waits_for_permissive(context, row)):
            row.status = Status.IN_PROGRESS
            context.state.enqueue(row)
            resumed.append(row)
        elif row.status.unsuccessful:
            failed[row.reference_name] = row
        else:
            failed.pop(row.reference_name, None)
    return resumed, list(failed.values())


def _waits_for_permissive(context: DecisionContext, join: TaskRow) -> bool:
    """Whether a JOIN has failed because of a permissive step.

    Raises:
        ServerError: one of the steps before that one has no row of this name (500), as on the server. In a loop no step
            has one, because the names of the rows there have the number of their iteration.
    """
    task = system_task(join)
    if task is None or not task.joins or join.status is not Status.FAILED:
        return False
    for name in join.input["joinOn"]:
        row = context.latest(name)
        if row is None:
            raise wire.server_error(
                "retry workflow", f"JOIN {join.reference_name} has failed, and {name} has no attempt"
            )
        if row.is_permissive and row.status is Status.FAILED:
            return True
    return False


def _retried(context: DecisionContext, row: TaskRow) -> TaskRow:
    task = system_task(row)
    if task is None or not task.resumes:
        return manual_retry(context.state, context.workflow, row, context.tasks)
    row.retried = False
    row.retry_count += 1
    row.status = Status.IN_PROGRESS
    return row


def restart(state: State, workflow: WorkflowRow, *, use_latest_definitions: bool) -> None:
    """Restart with new task ids. The old ones no longer exist."""
    operation = "restart workflow"
    if not workflow.status.terminal:
        detail = f"Workflow: {workflow}.{workflow.status} is not in terminal state, unable to restart."
        raise wire.conflict(operation, detail)
    if use_latest_definitions:
        detail = f"Unable to find latest definition for {workflow.workflow_id}"
        latest = workflow_definition(state, operation, workflow.name, None, detail)
        workflow.definition = wire.copied(latest)
        snapshot_definitions(state, workflow.definition)
    if not workflow.definition["restartable"] and workflow.status is WorkflowStatus.COMPLETED:
        raise wire.not_found(operation, f"Workflow: {workflow}.{workflow.status} is non-restartable")
    _remove_all_tasks(state, workflow)
    workflow.status, workflow.reason, workflow.output = WorkflowStatus.RUNNING, None, {}
    workflow.create_time = state.now()
    workflow.end_time = workflow.last_retried_time = 0
    state.workflows.touch(workflow.workflow_id)
    decide(state, workflow)
    revive_parents(state, workflow, "restarted")


def rerun(
    state: State,
    workflow: WorkflowRow,
    task_id: str | None,
    task_payload: Mapping[str, Any] | None,
    workflow_payload: Mapping[str, Any] | None,
) -> None:
    """Go back to an attempt, here or in a sub-workflow, and run it again under its old id. Later attempts are removed.

    Without a task id, the complete workflow starts again. Unsuccessful attempts of other steps that were retried long
    ago are revived, too, and handed out a second time, as on the real server.
    """
    payloads = {"taskInput": task_payload, "workflowInput": workflow_payload}
    inputs = {
        field: wire.through_json("rerun workflow", payload, what=field)
        for field, payload in payloads.items()
        if payload is not None
    }
    if not _rerun(state, workflow, task_id, inputs):
        raise wire.bad_request("rerun workflow", f"Task {task_id} not found")


def _rerun(state: State, workflow: WorkflowRow, task_id: str | None, inputs: Mapping[str, dict[str, Any]]) -> bool:
    """Whether the attempt was found."""
    if not workflow.status.terminal:
        detail = f"Workflow: {workflow}.{workflow.status} is not in terminal state, unable to rerun."
        raise wire.conflict("rerun workflow", detail)
    rows = [row.copy() for row in workflow.tasks]
    row = next((row for row in rows if row.task_id == task_id), None)
    if task_id is None:
        _remove_all_tasks(state, workflow)
        _run_again(state, workflow, inputs)
        decide(state, workflow)
        revive_parents(state, workflow, "reran")
    elif row is None:
        return _rerun_in_child(state, workflow, task_id, inputs)
    else:
        _run_again(state, workflow, inputs, None if row.kind == SUB_WORKFLOW else row)
        _write_back(state, [other for other in rows if other is not row])
        if row.kind == SUB_WORKFLOW:
            _rerun_sub_workflow(state, workflow, rows, row)
        else:
            _rerun_step(state, workflow, rows, row, inputs.get("taskInput", row.input))
    return True


def _run_again(
    state: State, workflow: WorkflowRow, inputs: Mapping[str, dict[str, Any]], row: TaskRow | None = None
) -> None:
    """Let a workflow run, and its parents. `row` is open from now on; its start and its output stay until its reset."""
    workflow.input = inputs.get("workflowInput", workflow.input)
    workflow.status, workflow.reason = WorkflowStatus.RUNNING, None
    workflow.failed_references, workflow.failed_tasks = [], []
    state.store_workflow(workflow)
    state.between_writes()
    if row is not None:
        row.status = Status.SCHEDULED
        _store(state, row)
    revive_parents(state, workflow, "reran")


def _rerun_step(
    state: State, workflow: WorkflowRow, rows: list[TaskRow], row: TaskRow, payload: dict[str, Any]
) -> None:
    for later in [other for other in rows if other.seq > row.seq]:
        state.remove_task(later)
        state.between_writes()
    if row.kind == DynamicFork.kind:
        _fork_again(state, workflow, row)
        return
    _reset(state, row)
    row.input = payload
    _store(state, row)
    state.enqueue(row)
    state.between_writes()
    _revive_failed_others(state, workflow, [other for other in rows if other.seq <= row.seq], row)


def _store(state: State, row: TaskRow) -> None:
    """Store a row, and let other callers act: the server changes one row after another, without a lock."""
    state.store(row, HistoryEvent.CHANGED)
    state.between_writes()


def _write_back(state: State, rows: list[TaskRow]) -> None:
    """Store rows as this operation has read or changed them. Changes by other callers since then are lost."""
    for row in rows:
        if row.task_id in state.tasks and state.tasks[row.task_id] != row:
            _store(state, row)


def _fork_again(state: State, workflow: WorkflowRow, row: TaskRow) -> None:
    """Replace the row of a dynamic fork by a new one and its branches. Failed steps before the fork are left as they
    are."""
    state.remove_task(row)
    context = DecisionContext.of(state, workflow)
    try:
        rows = context.rows_for(row.workflow_task)
    except Termination as error:
        raise wire.server_error("rerun workflow", error.reason) from error
    context.schedule(context.add(rows))
    decide(state, workflow)
    revive_parents(state, workflow, "reran")


def _rerun_sub_workflow(state: State, workflow: WorkflowRow, rows: list[TaskRow], row: TaskRow) -> None:
    """Resume a workflow without removing rows: later steps keep theirs. A completed child is not repeated."""
    _reset(state, row)
    row.attached_workflow_id, row.reason = None, None
    task = system_task(row)
    if task is not None:
        task.start(DecisionContext.of(state, workflow), row)
    _store(state, row)
    _revive_failed_others(state, workflow, rows, row)


def _rerun_in_child(state: State, workflow: WorkflowRow, task_id: str, inputs: Mapping[str, dict[str, Any]]) -> bool:
    of_child = {what: value for what, value in inputs.items() if what != "workflowInput"}
    for row in [row.copy() for row in workflow.tasks if row.kind == SUB_WORKFLOW]:
        child = state.workflows.get(row.sub_workflow_id or "")
        if child is None or not _rerun(state, child, task_id, of_child):
            continue
        _run_again(state, workflow, inputs)
        output = row.output
        _reset(state, row)
        row.output, row.reason = output, None
        row.status, row.start_time = Status.IN_PROGRESS, state.now()
        _store(state, row)
        decide(state, workflow)
        return True
    return False


def _reset(state: State, row: TaskRow) -> None:
    row.status = Status.SCHEDULED
    row.scheduled_time = state.now()
    row.start_time = row.update_time = row.end_time = row.poll_count = 0
    row.retried = row.executed = False
    row.output, row.external_output = {}, None


def _revive_failed_others(state: State, workflow: WorkflowRow, rows: list[TaskRow], rerun_row: TaskRow) -> None:
    """Begin each unsuccessful row of another step again. All rows are stored once more, and only then queued."""
    failed = [row for row in rows if row.status.unsuccessful and row.reference_name != rerun_row.reference_name]
    for row in failed:
        _revive(state, row)
    _write_back(state, rows)
    for row in failed:
        if row.status is Status.SCHEDULED:
            state.enqueue(row)
            state.between_writes()
    decide(state, workflow)
    revive_parents(state, workflow, "reran")


def _revive(state: State, row: TaskRow) -> None:
    task = system_task(row)
    if row.kind == SUB_WORKFLOW:
        row.attached_workflow_id = None
        row.output = {name: value for name, value in row.output.items() if name != "subWorkflowId"}
    goes_on = task is not None and (task.resumes or not task.background)
    row.status = Status.IN_PROGRESS if goes_on else Status.SCHEDULED
    row.executed, row.reason = False, None
    row.start_time, row.end_time = state.now(), 0


def _remove_all_tasks(state: State, workflow: WorkflowRow) -> None:
    for row in list(workflow.tasks):
        state.remove_task(row)


def revive_parents(state: State, workflow: WorkflowRow, what: str) -> None:
    """Let the step of each parent run again, with the canceled steps next to it.

    `what` was done to `workflow`, and the logs of the steps say so. Other failed sub-workflows of a parent are retried.

    Raises:
        NoSuchEntity: one of them was removed. The changes up to then stay, as on the server.
    """
    path = ""
    while workflow.parent_task_id is not None:
        row = state.tasks.get(workflow.parent_task_id)
        parent = state.workflows.get(workflow.parent_id or "")
        if row is None or parent is None or row.workflow_task["optional"] or row.retried:
            return
        row = row.copy()
        _continue(state, row)
        path = f"{workflow} -> {path}" if path else str(workflow)
        state.add_log(row.task_id, f"Sub workflow {path} {what}.", state.now())
        for other in [other.copy() for other in parent.tasks]:
            _repair(state, other)
        parent.status, parent.reason = WorkflowStatus.RUNNING, None
        parent.failed_references, parent.failed_tasks = [], []
        parent.last_retried_time = state.now()
        state.store_workflow(parent)
        state.between_writes()
        decide(state, parent)
        workflow = parent


def _continue(state: State, row: TaskRow) -> None:
    row.sub_workflow_changed = True
    row.status, row.reason = Status.IN_PROGRESS, None
    _store(state, row)


def _repair(state: State, row: TaskRow) -> None:
    if row.kind == SUB_WORKFLOW and row.sub_workflow_id is not None and row.status.unsuccessful:
        child = state.workflow("revive a parent", row.sub_workflow_id)
        if child.status is WorkflowStatus.RUNNING:
            _continue(state, row)
        elif any(inner.status.unsuccessful for inner in child.tasks):
            retry_steps(state, child)
            state.call_attention(child.workflow_id, decide=True)
            _continue(state, row)
    elif row.status is Status.CANCELED:
        task = system_task(row)
        if task is not None and task.resumes:
            row.status = Status.IN_PROGRESS
            _store(state, row)
        else:
            _begin_again(state, row)


def _begin_again(state: State, row: TaskRow) -> None:
    """Queue the same attempt under the same id. Only its retry count differs."""
    row.retry_count += 1
    row.status, row.reason, row.worker_id = Status.SCHEDULED, None, None
    row.poll_count = row.start_time = row.end_time = 0
    row.scheduled_time = state.now()
    row.retried = row.executed = False
    _store(state, row)
    state.enqueue(row)
    state.between_writes()


# ------------------------------------------------------------------ the work of the server itself
# The model does it before a call returns, and the work of its background tasks first: a JOIN that waits for a
# sub-workflow ends before the end of that sub-workflow causes a decision. A real server needs 50 to 300 ms for it, and
# up to 30 s for a JOIN that has waited for a long time.


def settle(state: State) -> None:
    """Do the work that is due at this moment, and the work that follows from it."""
    for task_id, due in list(state.timers.items()):
        if due <= state.now():
            del state.timers[task_id]
            row = state.tasks.get(task_id)
            if row is not None:
                state.call_attention(row.workflow_id)
            elif task_id in state.workflows:  # a failure workflow
                state.call_attention(task_id, decide=True)
            else:
                with guarded(state, task_id):
                    schedules.fire(state, task_id, due)
    while state.attention:
        workflow_id = next(iter(state.attention))
        must_decide = state.attention.pop(workflow_id)
        workflow = state.workflows.get(workflow_id)
        if workflow is None or workflow.status.terminal:
            continue
        with guarded(state, workflow_id):
            _work(state, workflow)
            if must_decide:
                _repair_sub_workflows(state, workflow)
                decide(state, workflow)


@contextmanager
def guarded(state: State, workflow_id: str) -> Iterator[None]:
    """Let other workflows continue when one cannot be decided. Each problem of a workflow is logged once."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this workflow alone
        problem = f"{type(error).__name__}: {error}"
        if state.problems.get(workflow_id) != problem:
            state.problems[workflow_id] = problem
            logger.warning("Conductor cannot decide workflow {}: {}", workflow_id, problem)


def _repair_sub_workflows(state: State, workflow: WorkflowRow) -> None:
    """End steps whose sub-workflows have ended. A rerun wakes the parent of a sub-workflow that ends immediately.

    The server's sweeper copies the status and the output, but no reason.
    """
    for row in [row.copy() for row in workflow.tasks if row.kind == SUB_WORKFLOW and row.status is Status.IN_PROGRESS]:
        child = state.workflows.get(row.sub_workflow_id or "")
        if child is not None and child.status.terminal:
            end_as(row, child)
            state.store(row, HistoryEvent.CHANGED)


def _work(state: State, workflow: WorkflowRow) -> None:
    for task_id in [row.task_id for row in workflow.tasks]:
        row = state.tasks.get(task_id)
        if row is None or row.status.terminal or workflow.status.terminal:
            continue
        task = system_task(row)
        if task is not None and task.background and state.timers.get(task_id, 0) <= state.now():
            _work_on(state, workflow, row.copy(), task)


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


def sweep(state: State) -> None:
    """Decide every workflow, including timeouts. A workflow that cannot be decided does not block others."""
    for workflow in list(state.workflows.values()):
        with guarded(state, workflow.workflow_id):
            decide(state, workflow)
