"""FORK_JOIN: done as soon as it is scheduled, together with the first step of each branch and the JOIN after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from perago.embedded.conductor.rows import Status, TaskRow, WorkflowStatus
from perago.embedded.conductor.steps import Step, following
from perago.embedded.conductor.systemtasks.task import SystemTask
from perago.embedded.conductor.timers import Termination

if TYPE_CHECKING:
    from perago.embedded.conductor.turn import Turn


class Fork(SystemTask):
    """Its row shows the type FORK."""

    kind = "FORK_JOIN"
    fields = frozenset(("forkTasks",))
    retriable = False

    def problems(self, step: Step) -> Iterator[str]:
        if not step["forkTasks"]:
            yield f"forkTasks should have atleast one task for taskType: {self.kind} taskName: {step['name']}"

    def rows(self, turn: Turn, step: Step, retry_count: int) -> list[TaskRow]:
        now = turn.state.now()
        fork = turn.new_row(step, "FORK", "FORK", status=Status.COMPLETED, start_time=now)
        fork.input = turn.resolved(step)
        rows = [fork]
        for branch in step["forkTasks"]:
            rows += turn.rows_for(branch[0], retry_count)
        join = following(turn.workflow.definition["tasks"], step["taskReferenceName"])
        if join is None or join["type"] != "JOIN":
            reason = "Fork task definition is not followed by a join task.  Check the blueprint"
            raise Termination(reason, WorkflowStatus.FAILED)
        return rows + turn.rows_for(join, retry_count)
