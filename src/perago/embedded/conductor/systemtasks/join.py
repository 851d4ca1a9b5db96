"""JOIN: waits until the steps that it names are done, and fails with the first of them that does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from perago.embedded.conductor.rows import Status, TaskRow
from perago.embedded.conductor.steps import Step, with_iteration
from perago.embedded.conductor.systemtasks.task import SystemTask

if TYPE_CHECKING:
    from perago.embedded.conductor.turn import Turn


class Join(SystemTask):
    """Looked at in the background, so it ends a moment after the last step that it waits for."""

    kind = "JOIN"
    fields = frozenset(("joinOn",))
    background = True
    resumes = True
    joins = True
    retriable = False

    def rows(self, turn: Turn, step: Step, _retry_count: int) -> list[TaskRow]:
        row = turn.new_row(step, "JOIN", "JOIN", status=Status.IN_PROGRESS, start_time=turn.state.now())
        row.input = {"joinOn": list(step["joinOn"])}
        return [row]

    def execute(self, turn: Turn, row: TaskRow) -> bool:
        names = [with_iteration(name, row.iteration) if row.iteration else name for name in row.input["joinOn"]]
        latest = {name: turn.latest(name) for name in names}
        present = [other for other in latest.values() if other is not None]
        if _is_stuck(present):
            return False
        for other in present:
            if other.output:
                row.output = {**row.output, other.reference_name: other.output}
            if _fails(other):
                return _fail(row, present)
        if len(present) < len(latest) or not all(other.status.terminal for other in present):
            return False
        errors = [other for other in present if other.status is Status.COMPLETED_WITH_ERRORS]
        row.status = Status.COMPLETED_WITH_ERRORS if errors else Status.COMPLETED
        if errors:
            failed = " ".join(f"{other.task_name}/{other.task_id}" for other in errors)
            row.reason = f"{failed} completed with errors"
        return True


def _fails(other: TaskRow) -> bool:
    return other.status.unsuccessful and not other.workflow_task["optional"]


def _is_stuck(present: Sequence[TaskRow]) -> bool:
    """A step that was skipped by hand has no output, not even an empty one: the server stumbles over it each time that
    it looks, so that such a JOIN never ends, unless one that it looks at earlier has failed."""
    until_failure = takewhile(lambda other: not _fails(other), present)
    return any(other.status is Status.SKIPPED for other in until_failure)


def _fail(row: TaskRow, present: Sequence[TaskRow]) -> bool:
    failed = [other for other in present if other.status.unsuccessful]
    row.reason = " ".join(other.reason for other in failed if other.reason is not None)
    mandatory = [other for other in failed if not other.workflow_task["optional"]]
    cancelled = all(other.status is Status.CANCELED for other in mandatory)
    row.status = Status.CANCELED if cancelled else Status.FAILED
    return True
