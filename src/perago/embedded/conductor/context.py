"""What a decision works on: copies of a workflow's rows, and the interface of the server's own task types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from perago.embedded.conductor.domains import domain_of
from perago.embedded.conductor.expressions import resolve
from perago.embedded.conductor.rows import Status, TaskRow, WorkflowRow
from perago.embedded.conductor.scheduling import expression_context, first_attempt, new_row, task_input
from perago.embedded.conductor.state import HistoryEvent, State
from perago.embedded.conductor.steps import Step


class SystemTask:
    """A task type that the server works on itself. Rows are working copies; the caller stores them."""

    kind: ClassVar[str]
    """Its `type` in a workflow definition."""
    fields: ClassVar[frozenset[str]] = frozenset()
    """The fields of a workflow task that mean something to it, beyond those of every task."""
    background: ClassVar[bool] = False
    """The server's workers take it up after the decision that scheduled it, not within."""
    ends_by_itself: ClassVar[bool] = True
    """False: once started, something else ends it, and the server does not look at it again."""
    resumes: ClassVar[bool] = False
    """A retry or a rerun uses the row again; no new one is made."""
    iterates: ClassVar[bool] = False
    """The iteration of its row is its own, not that of a loop around it."""
    joins: ClassVar[bool] = False
    """It waits for other steps, and looks at them again when one that had failed is run again."""
    ends_workflow: ClassVar[bool] = False
    """Once it is COMPLETED, so is the workflow, or what else its row says."""
    retriable: ClassVar[bool] = True
    """Conductor retries it like a worker's task if it has a task definition that says so."""

    def check(self, step: Step, where: str) -> None:
        """Raise `NotImplementedError` for what the model does not have of this task type."""

    def problems(self, step: Step) -> Iterator[str]:  # noqa: ARG002 - the interface
        """What the server's validation says when the definition is registered."""
        yield from ()

    def rows(self, context: DecisionContext, step: Step, retry_count: int) -> list[TaskRow]:
        """The rows that scheduling the step adds, its own first."""
        raise NotImplementedError(self.kind)

    def start(self, context: DecisionContext, row: TaskRow) -> None:
        """Begin."""

    def execute(self, context: DecisionContext, row: TaskRow) -> bool:  # noqa: ARG002 - the interface
        """Go on; whether that has changed the row, so that the workflow needs another decision."""
        return False

    def leads_on(self, row: TaskRow) -> bool:  # noqa: ARG002 - the interface
        """Whether the end of its row is followed by the next step; else the steps inside of it are."""
        return True

    def ends_with(self, state: State, row: TaskRow) -> str | None:  # noqa: ARG002 - the interface
        """The id of the workflow that is terminated when this row is cancelled."""
        return None


SYSTEM_TASKS: dict[str, SystemTask] = {}
"""By the `type` in a workflow definition; the package `systemtasks` fills it."""


def system_task(row: TaskRow) -> SystemTask | None:
    """What works on this row; None if a worker does."""
    return SYSTEM_TASKS.get(row.kind)


def required(step: Mapping[str, Any], field: str) -> str:
    """The server's complaint about a missing field."""
    return f"{field} field is required for taskType: {step['type']} taskName: {step['name']}"


def not_modelled(where: str, what: str) -> NotImplementedError:
    """The refusal of a part that the model does not have."""
    return NotImplementedError(f"InMemoryConductor: {where}: {what} is not modelled; run it on a real Conductor")


@dataclass(slots=True)
class DecisionContext:
    """What the decider and the server's own tasks work on. Nothing of it is visible until it is stored."""

    state: State
    workflow: WorkflowRow
    tasks: list[TaskRow]
    """Copies of the rows in the order of their `seq`, followed by those that this decision has added."""

    @classmethod
    def of(cls, state: State, workflow: WorkflowRow) -> DecisionContext:
        """A fresh look."""
        return cls(state, workflow, [row.copy() for row in workflow.tasks])

    def latest(self, reference: str) -> TaskRow | None:
        """The last row of that reference name."""
        return next((row for row in reversed(self.tasks) if row.reference_name == reference), None)

    def visible(self) -> dict[str, Any]:
        """What `${...}` can see."""
        return expression_context(self.workflow, self.tasks)

    def resolved(self, step: Step, task_id: str | None = None, *, templated: bool = False) -> dict[str, Any]:
        """The input parameters of a step, with the `inputTemplate` of its task definition where that counts."""
        if templated:
            return task_input(step, step["taskDefinition"], self.visible(), task_id or "")
        return dict(resolve(step["inputParameters"], self.visible(), task_id))

    def new_row(
        self, step: Step, task_type: str, task_name: str, status: Status = Status.SCHEDULED, start_time: int = 0
    ) -> TaskRow:
        """A row of one of the server's own tasks, not yet scheduled. A row that is born COMPLETED ends at its start."""
        row = new_row(self.state, self.workflow, step, task_type, task_name)
        row.status, row.start_time = status, start_time
        row.end_time = start_time if status.terminal else 0
        return row

    def rows_for(self, step: Step, retry_count: int = 0) -> list[TaskRow]:
        """The rows that scheduling a step adds, without those whose step has begun already."""
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
        """Add those whose attempt is not there yet, and return them."""
        known = {row.step_key for row in self.tasks}
        fresh = [row for row in rows if row.step_key not in known]
        self.tasks += fresh
        return fresh

    def schedule(self, rows: Sequence[TaskRow]) -> bool:
        """Store fresh rows, queue them, and begin with those that begin at once; whether there are any."""
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
