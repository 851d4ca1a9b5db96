"""The family of a workflow, read from Conductor by an operation: its rows now, and after a rerun or a retry.

docs/dev/servers/conductor.md, "Forks, `permissive` and their recovery", has the measurements.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from perago.adapters.conductor.overview import ConductorWorkflows
from perago.adapters.conductor.queue import unless_missing
from perago.attempt.history import WORKFLOWS_READ
from perago.conductor_json import rows_of, step_type, workflow_from
from perago.failure import Failure
from perago.ports import Delivery, TaskRow, WorkflowRow

Json = Mapping[str, Any]
_UNSUCCESSFUL = ("FAILED", "FAILED_WITH_TERMINAL_ERROR", "TIMED_OUT", "CANCELED")
_RESET = -1
"""The start time of a row that starts again: no attempt has it."""
_NEW = "new"
"""The sub-workflow of a row that starts again: none that has published."""


@dataclass(frozen=True, slots=True)
class OpenRow:
    """An attempt that is scheduled or running."""

    workflow_id: str
    reference_name: str


class FamilyAtRest:
    """All workflows of a family. As a `DeliveryCheck`, it answers for an operation whether it is at rest.

    `workflows` has the JSON of each workflow by id; None: Conductor does not have it.
    """

    def __init__(self, conductor: ConductorWorkflows, workflow_id: str) -> None:
        """Read the family of a workflow.

        Raises:
            Failure: it has too many workflows.
            ServiceError: Conductor did not answer, or does not have the workflow.
        """
        self._conductor = conductor
        self.workflows: dict[str, Json | None] = {workflow_id: conductor.workflow(workflow_id)}
        self.root_id: str = self._read_up(workflow_id)
        self.after: dict[str, WorkflowRow] = {}
        """The rows of workflows as an operation will change them, which replace those of today."""
        self._read_down(self.root_id)
        self._own_ids: set[str] = set(self.workflows)

    @property
    def members(self) -> dict[str, Json | None]:
        """The workflows of the family itself. Others are read to find out whether they belong to it."""
        return {workflow_id: self.workflows[workflow_id] for workflow_id in self._own_ids}

    def read(self, workflow_id: str) -> None:
        """Read a workflow that a commit names, and its parents, unless they are known."""
        above: str | None = workflow_id
        while above and above not in self.workflows:
            workflow = self.workflows[above] = self._workflow(above)
            above = workflow.get("parentWorkflowId") if workflow is not None else None
        if above in self._own_ids:  # a child that no row names any longer
            self._own_ids.add(workflow_id)

    def rows(self) -> dict[str, WorkflowRow | None]:
        """Return the rows of all workflows, as they will be after the operation."""
        return {
            workflow_id: self.after.get(workflow_id) or (workflow_from(workflow) if workflow is not None else None)
            for workflow_id, workflow in self.workflows.items()
        }

    def open_rows(self) -> Iterator[OpenRow]:
        """Yield the attempts that are open, and sub-workflows that are starting."""
        for workflow_id, workflow in self.members.items():
            if workflow is None:
                continue
            read = workflow_from(workflow)
            for row in read.rows:
                is_starting = row.is_sub_workflow and row.sub_workflow_id is None
                is_attempt = not row.is_sub_workflow and not row.is_operator
                if row.is_open and (is_attempt or is_starting) and not read.has_retry(row):
                    yield OpenRow(workflow_id, row.reference_name)

    # ----------------------------------------------------------------- the port of an operation

    def is_current(self, delivery: Delivery) -> bool:  # noqa: ARG002 - the port's
        """Whether the family is still at rest."""
        now = FamilyAtRest(self._conductor, self.root_id)
        return not any(now.open_rows())

    def read_workflow(self, delivery: Delivery, workflow_id: str) -> WorkflowRow | None:  # noqa: ARG002 - the port's
        """Return the rows of a workflow as they will be after the operation."""
        if workflow_id in self.after:
            return self.after[workflow_id]
        workflow = self._workflow(workflow_id)
        return workflow_from(workflow) if workflow is not None else None

    # --------------------------------------------------------------------------- the operations

    def rerun(self, workflow_id: str, task_id: str | None) -> None:
        """Change the rows as a rerun from an attempt does, or from the beginning."""
        workflow = self._known(workflow_id)
        place = next((number for number, row in enumerate(workflow.rows) if row.task_id == task_id), 0)
        first, removed = workflow.rows[place : place + 1], workflow.rows[place + 1 :]
        if task_id is None or self._kind(workflow_id, task_id) == "FORK_JOIN_DYNAMIC":
            first, removed = (), (*first, *removed)
        earlier = self._without(workflow_id, (*first, *removed))
        name = first[0].reference_name if first else None
        # Unlike the rows that a loop has forgotten, these are known to count no longer.
        void = [replace(row, start_time=_RESET, published_commit=None, input_commits=frozenset()) for row in removed]
        self.after[workflow_id] = replace(
            earlier,
            rows=(
                *(
                    _reset(row) if row.status in _UNSUCCESSFUL and row.reference_name != name else row
                    for row in earlier.rows
                ),
                *(replace(_reset(row), start_time=0, published_commit=None) for row in first),
                *void,
                *map(_retry_of, void),
            ),
        )
        self._revive_parents(workflow_id)

    def retry(self, workflow_id: str) -> None:
        """Change the rows as a retry of the failed steps does."""
        workflow = self._known(workflow_id)
        newest = {row.reference_name: row for row in workflow.rows}
        failed = (row for row in newest.values() if row.status in _UNSUCCESSFUL and not row.is_operator)
        self.after[workflow_id] = replace(workflow, rows=(*workflow.rows, *map(_retry_of, failed)))
        self._revive_parents(workflow_id)

    def _revive_parents(self, workflow_id: str) -> None:
        """Start the canceled attempts again that are next to the sub-workflow."""
        child, parent_id = workflow_id, self._known(workflow_id).parent_id
        while parent_id is not None and self.workflows.get(parent_id) is not None:
            parent = self._known(parent_id)
            row = next((row for row in reversed(parent.rows) if row.sub_workflow_id == child), None)
            if row is None or row.is_optional or parent.has_retry(row):
                return
            self.after[parent_id] = replace(
                parent,
                rows=tuple(
                    _reset(other) if other.status == "CANCELED" and not other.is_sub_workflow else other
                    for other in parent.rows
                ),
            )
            child, parent_id = parent_id, parent.parent_id

    # ------------------------------------------------------------------------------------- parts

    def _known(self, workflow_id: str) -> WorkflowRow:
        workflow = self.after.get(workflow_id)
        if workflow is not None:
            return workflow
        known = self.workflows[workflow_id]
        if known is None:
            raise KeyError(workflow_id)
        return workflow_from(known)

    def _without(self, workflow_id: str, rows: Iterable[TaskRow]) -> WorkflowRow:
        workflow, removed = self.workflows[workflow_id] or {}, {row.task_id for row in rows}
        tasks = [row for row in workflow["tasks"] if row["taskId"] not in removed]
        return workflow_from({**workflow, "tasks": tasks})

    def _kind(self, workflow_id: str, task_id: str) -> str:
        return next(
            (step_type(row) for row in rows_of(self.workflows[workflow_id]) if row.get("taskId") == task_id), ""
        )

    def _read_up(self, workflow_id: str) -> str:
        root = workflow_id
        while parent := (self.workflows[root] or {}).get("parentWorkflowId"):
            if parent in self.workflows:
                raise Failure(f"the parents of workflow {workflow_id} form a cycle", "check the workflow in Conductor")
            self.workflows[parent] = self._conductor.workflow(parent)
            root = parent
        return root

    def _read_down(self, workflow_id: str) -> None:
        pending = [workflow_id]
        while pending:
            current = pending.pop()
            if current not in self.workflows:
                self.workflows[current] = self._workflow(current)
            if len(self.workflows) > WORKFLOWS_READ:
                problem = f"workflow {self.root_id} has more than {WORKFLOWS_READ:,} sub-workflows"
                raise Failure(problem, "start it again on another branch")
            children = [
                str(row["subWorkflowId"]) for row in rows_of(self.workflows[current]) if row.get("subWorkflowId")
            ]
            pending += [child for child in children if child not in self.workflows]

    def _workflow(self, workflow_id: str) -> Json | None:
        return unless_missing(workflow_id, self._conductor.workflow)


def _retry_of(row: TaskRow) -> TaskRow:
    return replace(_reset(row), task_id=f"retry of {row.task_id}", retried_task_id=row.task_id, published_commit=None)


def _reset(row: TaskRow) -> TaskRow:
    return replace(row, start_time=_RESET, status="SCHEDULED", poll_count=0, sub_workflow_id=_NEW)
