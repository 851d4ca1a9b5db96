"""Rows that a decision works on: timeouts, new attempts, and the interface of the server's own task types."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from perago.embedded.conductor.expressions import resolve
from perago.embedded.conductor.state import (
    OPERATORS,
    HistoryEvent,
    State,
    Status,
    Step,
    TaskRow,
    WorkflowRow,
    WorkflowStatus,
    domain_of,
    without_iteration,
)
from perago.embedded.conductor.views import in_camel_case

MAX_DELAY_SECONDS = 2**31 - 1


class Termination(Exception):
    """The workflow ends here, unsuccessfully. `row` is the attempt that ended it, if it was one."""

    def __init__(self, reason: str, status: WorkflowStatus = WorkflowStatus.FAILED, row: TaskRow | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.row = row


def check_workflow_timeout(workflow: WorkflowRow, now: int) -> None:
    """Raise `Termination` if the workflow has timed out and its policy requires it."""
    seconds, policy = workflow.definition["timeoutSeconds"], workflow.definition["timeoutPolicy"]
    elapsed = now - (workflow.last_retried_time or workflow.create_time)
    if seconds <= 0 or elapsed < seconds * 1000 or policy == "ALERT_ONLY":
        return
    limit = f"Timeout configured as {seconds} seconds. Timeout policy configured to {policy}"
    reason = f"Workflow timed out after {elapsed // 1000} seconds. {limit}"
    raise Termination(reason, WorkflowStatus.TIMED_OUT)


def check_task_timeouts(row: TaskRow, now: int) -> None:
    """Change `row` to TIMED_OUT, or raise `Termination`, if one of its timeouts has passed
    (`docs/dev/servers/conductor.md`, "Attempt state machine")."""
    policy = row.definition["timeoutPolicy"]
    reason = None if row.status.terminal or policy == "ALERT_ONLY" else next(_passed_timeouts(row, now), None)
    if reason is not None:
        row.status, row.reason = Status.TIMED_OUT, reason
        if policy == "TIME_OUT_WF":
            raise Termination(reason, WorkflowStatus.TIMED_OUT, row)


def timeouts(row: TaskRow) -> Iterator[tuple[str, int]]:
    """Yield each limit that an open attempt can exceed, as the field of its definition, and the time (ms) at which it
    is exceeded.

    The limit of all attempts together comes first, then those of this attempt, of its poll and of its response.
    """
    definition, delay, callback = row.definition, row.start_delay_seconds, row.callback_after_seconds
    if (total := definition["totalTimeoutSeconds"]) > 0:
        yield "totalTimeoutSeconds", row.first_scheduled_time + total * 1000
    if row.start_time > 0 and (seconds := definition["timeoutSeconds"]) > 0:
        yield "timeoutSeconds", row.start_time + (delay + seconds) * 1000
    if row.status is Status.SCHEDULED and (poll := definition.get("pollTimeoutSeconds") or 0) > 0:
        yield "pollTimeoutSeconds", row.scheduled_time + (delay + callback + poll) * 1000
    if row.status is Status.IN_PROGRESS and (response := definition["responseTimeoutSeconds"]) != 0:
        yield "responseTimeoutSeconds", row.update_time + (callback + response) * 1000


def _passed_timeouts(row: TaskRow, now: int) -> Iterator[str]:
    policy = row.definition["timeoutPolicy"]
    for field, due in timeouts(row):
        if now < due:
            continue
        seconds = row.definition[field]
        elapsed, limit = (now - due) // 1000 + seconds, f"configured as {seconds} seconds"
        if field == "totalTimeoutSeconds":
            spent = f"(elapsed {elapsed} seconds across all attempts including retry delays). Timeout policy: {policy}"
            yield f"Task {row.task_name}/{row.task_id} exceeded total timeout of {seconds} seconds {spent}"
        elif field == "timeoutSeconds":
            yield f"Task timed out after {elapsed} seconds. Timeout {limit}. Timeout policy configured to {policy}"
        elif field == "pollTimeoutSeconds":
            late = f"Task poll timed out after {elapsed + row.callback_after_seconds} seconds"
            yield f"{late}. Poll timeout {limit}. Timeout policy configured to {policy}"


def check_response_timeout(row: TaskRow, now: int) -> None:
    """Change `row` to TIMED_OUT if it is in progress and its response timeout has passed."""
    due = dict(timeouts(row)).get("responseTimeoutSeconds")
    if due is not None and now >= due:
        which = f"the taskId: {row.task_id} with Task Definition: {row.task_name}"
        row.status = Status.TIMED_OUT
        row.reason = f"responseTimeout: {row.definition['responseTimeoutSeconds']} exceeded for {which}"


def check_total_budget(row: TaskRow, now: int) -> None:
    """Raises `Termination` if a failed attempt must not be retried because the total time of all attempts has
    passed."""
    seconds, elapsed = row.definition["totalTimeoutSeconds"], (now - row.first_scheduled_time) // 1000
    if seconds <= 0 or elapsed < seconds:
        return
    spent = f"(elapsed {elapsed} seconds across all attempts). No further retries will be attempted."
    reason = f"Task {row.task_id}/{row.task_name} exceeded total timeout of {seconds} seconds {spent}"
    timed_out = row.status is Status.TIMED_OUT
    raise Termination(reason, WorkflowStatus.TIMED_OUT if timed_out else WorkflowStatus.FAILED, row)


def retry_delay_seconds(row: TaskRow) -> int:
    """Return the delay of the attempt after `row`, without jitter.

    A negative back-off counts as one that is too large, a negative fixed delay as no delay.
    """
    definition = row.definition
    delay, logic = int(definition["retryDelaySeconds"]), definition["retryLogic"]
    if logic == "LINEAR_BACKOFF":
        delay *= definition["backoffScaleFactor"] * (row.retry_count + 1)
    elif logic == "EXPONENTIAL_BACKOFF":
        delay *= 2**row.retry_count
    if delay < 0 and logic != "FIXED":
        delay = MAX_DELAY_SECONDS
    cap = definition["maxRetryDelaySeconds"]
    return min(delay, cap if cap > 0 else MAX_DELAY_SECONDS)


def jitter_ms(row: TaskRow, source: random.Random) -> int:
    """Return milliseconds between 0 and `backoffJitterMs`, both included."""
    return source.randint(0, row.definition["backoffJitterMs"])


def expression_context(workflow: WorkflowRow, tasks: Sequence[TaskRow]) -> dict[str, Any]:
    """Return the values of `${...}`: the workflow and the latest attempt of each step, in loops the last iteration."""
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
    latest = {without_iteration(row.reference_name) if row.iteration else row.reference_name: row for row in tasks}
    return context | {name: _task_context(row) for name, row in latest.items()}


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
    """Return the input of an attempt. `inputTemplate` fills keys whose value is missing or null."""
    template = definition["inputTemplate"]
    resolved = dict(resolve({**template, **workflow_task["inputParameters"]}, context, task_id))
    return {key: template.get(key) if value is None else value for key, value in resolved.items()}


def first_attempt(
    state: State, workflow: WorkflowRow, workflow_task: dict[str, Any], tasks: Sequence[TaskRow], retry_count: int
) -> TaskRow:
    """Return the first attempt of a step, with the definition that the workflow was started with.

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
    """Return an empty row of a step, with an id."""
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
    """Return the attempt after `row`: delayed, with the reason of its predecessor and a recomputed input."""
    fresh = _successor(state, workflow, row, tasks)
    delay = retry_delay_seconds(row)
    fresh.start_delay_seconds = fresh.callback_after_seconds = delay
    fresh.callback_after_ms = delay * 1000 + jitter_ms(row, state.random)
    fresh.reason = row.reason
    row.retried = True
    return fresh


def manual_retry(state: State, workflow: WorkflowRow, row: TaskRow, tasks: Sequence[TaskRow]) -> TaskRow:
    """Return the attempt after `row` by `/retry`: it starts immediately. `row` shows the recomputed input, too.

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


SYSTEM_TASKS: dict[str, SystemTask] = {}
"""By the `type` in a workflow definition. A class with a `kind` registers itself."""


class SystemTask:
    """A task type that the server itself runs. Rows are working copies, which the caller stores."""

    kind: ClassVar[str]
    """Its `type` in a workflow definition."""
    fields: ClassVar[frozenset[str]] = frozenset()
    """The additional fields of a workflow task that it supports."""
    background: ClassVar[bool] = False
    """Whether the server's workers start it after the decision that scheduled it, not within."""
    ends_by_itself: ClassVar[bool] = True
    """Whether the server checks it again after its start. If not, another event ends it."""
    resumes: ClassVar[bool] = False
    """Whether a retry or a rerun reuses the row."""
    iterates: ClassVar[bool] = False
    """Whether the iteration of its row is its own, not that of an enclosing loop."""
    joins: ClassVar[bool] = False
    """Whether it waits for other steps, and checks them again when a failed one is run again."""
    ends_workflow: ClassVar[bool] = False
    """Whether its completion ends the workflow, with that status or another one from its row."""
    retriable: ClassVar[bool] = True
    """Whether Conductor retries it like a worker's task, if its task definition allows retries."""
    begins: ClassVar[bool] = False
    """Whether its row is in progress as soon as it is scheduled. If not, the row waits, first for the `startDelay` of
    its step."""
    templated: ClassVar[bool] = False
    """Whether the `inputTemplate` of its task definition applies."""
    by_name: ClassVar[bool] = False
    """Whether the server works on it even for a worker whose name equals its type."""
    knows_its_id: ClassVar[bool] = True
    """Its input can name the id of its row."""

    def __init_subclass__(cls) -> None:
        if "kind" in vars(cls):
            SYSTEM_TASKS[cls.kind] = cls()
            OPERATORS.update((cls.kind,) if cls.by_name else ())

    def check(self, step: Step, where: str) -> None:
        """Raise `NotImplementedError` for unsupported fields of this task type."""

    def problems(self, step: Step) -> Iterator[str]:  # noqa: ARG002 - the interface
        """Yield the problems that the server's validation finds when the definition is registered."""
        yield from ()

    def rows(self, context: DecisionContext, step: Step, retry_count: int) -> list[TaskRow]:  # noqa: ARG002 - the interface
        """Return the rows that scheduling the step adds, its own first."""
        row = context.new_row(step, self.kind, step["name"])
        if self.begins:
            row.status, row.start_time = Status.IN_PROGRESS, context.state.now()
        else:
            row.callback_after_seconds = step["startDelay"]
        row.input = context.resolved(step, row.task_id if self.knows_its_id else None, templated=self.templated)
        return [row]

    def start(self, context: DecisionContext, row: TaskRow) -> None:
        """Begin the work."""

    def execute(self, context: DecisionContext, row: TaskRow) -> bool:  # noqa: ARG002 - the interface
        """Continue the work. Return whether the row has changed, so that the workflow needs another decision."""
        return False

    def has_successor(self, row: TaskRow) -> bool:  # noqa: ARG002 - the interface
        """Whether the next step follows the end of its row. If not, its inner steps follow."""
        return True

    def ends_with(self, state: State, row: TaskRow) -> str | None:  # noqa: ARG002 - the interface
        """Return the id of the workflow that is terminated when this row is canceled."""
        return None


def system_task(row: TaskRow) -> SystemTask | None:
    """Return the system task that works on this row; None if a worker does."""
    return SYSTEM_TASKS.get(row.kind)


def required(step: Mapping[str, Any], field: str) -> str:
    """Return the server's complaint about a missing field."""
    return f"{field} field is required for taskType: {step['type']} taskName: {step['name']}"


@dataclass(slots=True)
class DecisionContext:
    """The working copy of the decider and the server's own tasks. It is invisible until it is stored."""

    state: State
    workflow: WorkflowRow
    tasks: list[TaskRow]
    """Copies of the rows in the order of their `seq`, followed by those that this decision has added."""

    @classmethod
    def of(cls, state: State, workflow: WorkflowRow) -> DecisionContext:
        """Create the working copy from the current state."""
        return cls(state, workflow, [row.copy() for row in workflow.tasks])

    def latest(self, reference: str) -> TaskRow | None:
        """Return the last row with that reference name."""
        return next((row for row in reversed(self.tasks) if row.reference_name == reference), None)

    def visible(self) -> dict[str, Any]:
        """Return the values of `${...}`."""
        return expression_context(self.workflow, self.tasks)

    def resolved(self, step: Step, task_id: str | None = None, *, templated: bool = False) -> dict[str, Any]:
        """Return the input parameters of a step, with the `inputTemplate` of its task definition if it applies."""
        if templated:
            return task_input(step, step["taskDefinition"], self.visible(), task_id or "")
        return dict(resolve(step["inputParameters"], self.visible(), task_id))

    def new_row(
        self, step: Step, task_type: str, task_name: str, status: Status = Status.SCHEDULED, start_time: int = 0
    ) -> TaskRow:
        """Return a row of one of the server's own tasks, not yet scheduled. It ends at its start if it is COMPLETED."""
        row = new_row(self.state, self.workflow, step, task_type, task_name)
        row.status, row.start_time = status, start_time
        row.end_time = start_time if status.terminal else 0
        return row

    def rows_for(self, step: Step, retry_count: int = 0) -> list[TaskRow]:
        """Return the rows that scheduling a step adds, without those whose step has begun already."""
        task = SYSTEM_TASKS.get(step["type"])
        if task is None:
            rows = [first_attempt(self.state, self.workflow, step, self.tasks, retry_count)]
        else:
            rows = task.rows(self, step, retry_count)
        begun = {row.reference_name for row in self.tasks if row.status is not Status.SCHEDULED}
        return [row for row in rows if row.reference_name not in begun]

    def choose_domains(self, rows: Sequence[TaskRow]) -> None:
        """Give workers' attempts the domain that `taskToDomain` says."""
        for row in rows:
            if system_task(row) is None:
                row.domain = domain_of(self.state, self.workflow, row)

    def add(self, rows: Sequence[TaskRow]) -> list[TaskRow]:
        """Add the rows whose attempt does not exist yet, and return them."""
        known = {row.step_key for row in self.tasks}
        fresh = [row for row in rows if row.step_key not in known]
        self.tasks += fresh
        return fresh

    def schedule(self, rows: Sequence[TaskRow]) -> bool:
        """Store fresh rows, queue them, and start those that start immediately. Return whether there are any."""
        created = [row for row in rows if self.state.create(self.workflow, row)]
        begun = False
        for row in created:
            task = system_task(row)
            if task is not None and not row.status.terminal:
                row.start_time = row.start_time or self.state.now()
            if task is None or task.background:
                self.state.enqueue(row)
                continue
            task.start(self, row)
            self.state.store(row, HistoryEvent.CHANGED)
            begun = True
        return begun
