"""One look at a workflow: working copies of its rows, and what is done to them before they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from perago.embedded.conductor.domains import domain_of
from perago.embedded.conductor.expressions import resolve
from perago.embedded.conductor.rows import Status, TaskRow, WorkflowRow
from perago.embedded.conductor.scheduling import expression_context, first_attempt, new_row, task_input
from perago.embedded.conductor.state import Happening, State
from perago.embedded.conductor.steps import Step
from perago.embedded.conductor.systemtasks import SYSTEM_TASKS, system_task


@dataclass(slots=True)
class Turn:
    """What the decider and the server's own tasks work on. Nothing of it is visible until it is stored."""

    state: State
    workflow: WorkflowRow
    tasks: list[TaskRow]
    """Copies of the rows in the order of their `seq`, followed by those that this turn has added."""

    @classmethod
    def of(cls, state: State, workflow: WorkflowRow) -> Turn:
        """A fresh look."""
        return cls(state, workflow, [row.copy() for row in workflow.tasks])

    def latest(self, reference: str) -> TaskRow | None:
        """The last row of that reference name."""
        return next((row for row in reversed(self.tasks) if row.reference_name == reference), None)

    def context(self) -> dict[str, Any]:
        """What `${...}` can see."""
        return expression_context(self.workflow, self.tasks)

    def resolved(self, step: Step, task_id: str | None = None, *, templated: bool = False) -> dict[str, Any]:
        """The input parameters of a step, with the `inputTemplate` of its task definition where that counts."""
        if templated:
            return task_input(step, step["taskDefinition"], self.context(), task_id or "")
        return dict(resolve(step["inputParameters"], self.context(), task_id))

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
            self.state.store(row, Happening.CHANGED)
            begun = True
        return begun
