"""TERMINATE: ends the workflow from within."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from perago.embedded.conductor.rows import Status, TaskRow
from perago.embedded.conductor.steps import Step
from perago.embedded.conductor.systemtasks.task import SystemTask, not_modelled

if TYPE_CHECKING:
    from perago.embedded.conductor.turn import Turn


TERMINATION_STATUSES = ("COMPLETED", "FAILED", "TERMINATED")


class Terminate(SystemTask):
    """Ends the workflow with a status and an output of its own; the decider does that once its row is COMPLETED."""

    kind = "TERMINATE"
    ends_workflow = True

    def check(self, step: Step, where: str) -> None:
        status = step["inputParameters"].get("terminationStatus")
        if isinstance(status, str) and "${" in status:
            raise not_modelled(where, f"terminationStatus {status}")

    def problems(self, step: Step) -> Iterator[str]:
        if step["optional"]:
            yield f"terminate task cannot be optional, taskName: {step['name']}"
        if step["inputParameters"].get("terminationStatus") not in TERMINATION_STATUSES:
            yield (
                "terminate task must have an terminationStatus parameter and must be set to COMPLETED or FAILED, "
                f"taskName: {step['name']}"
            )

    def rows(self, turn: Turn, step: Step, _retry_count: int) -> list[TaskRow]:
        row = turn.new_row(step, self.kind, step["name"], status=Status.IN_PROGRESS, start_time=turn.state.now())
        row.input = turn.resolved(step, row.task_id)
        return [row]

    def execute(self, _turn: Turn, row: TaskRow) -> bool:
        if row.input.get("terminationStatus") not in TERMINATION_STATUSES:  # the input of a rerun
            row.status, row.reason = Status.FAILED, "given termination status is not valid"
            return False
        output = row.input.get("workflowOutput")
        row.output = output if isinstance(output, dict) else {} if output is None else {"output": output}
        row.status = Status.COMPLETED
        return True
