"""SET_VARIABLE: done within the decision that schedules it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perago.embedded.conductor.rows import Status, TaskRow
from perago.embedded.conductor.steps import Step
from perago.embedded.conductor.systemtasks.task import SystemTask

if TYPE_CHECKING:
    from perago.embedded.conductor.turn import Turn


class SetVariable(SystemTask):
    """Its input becomes variables of the workflow."""

    kind = "SET_VARIABLE"

    def rows(self, turn: Turn, step: Step, _retry_count: int) -> list[TaskRow]:
        row = turn.new_row(step, self.kind, step["name"], status=Status.IN_PROGRESS, start_time=turn.state.now())
        row.input = turn.resolved(step)
        return [row]

    def execute(self, turn: Turn, row: TaskRow) -> bool:
        turn.workflow.variables = {**turn.workflow.variables, **row.input}
        turn.state.store_workflow(turn.workflow)
        row.status = Status.COMPLETED
        return True
