"""The family of a workflow, as Conductor's rows show it: what counts, and who is still running.

A family is a workflow that was started, with all its sub-workflows. Rows are evidence, and times are compared for
equality only: the clocks of Conductor's nodes differ. Rows change after they were read: a rerun resets them one after
the other, and a late report completes a row that was started again. So a judgment uses rows that were read after the
commits that it is about. Only a row that is open again can give evidence back to a commit. So evidence that an attempt
is gone is final, and the only open attempt of a family can rely on a lack of evidence, too.

docs/dev/protocol.md has the rules on one page.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from enum import Enum, auto
from itertools import pairwise

from perago.attempt.publication import Origin
from perago.ports import Commit, TaskRow, WorkflowRow


class Place(Enum):
    """Whether the parents of a workflow name it."""

    NAMED = auto()
    """Each parent names the workflow below it in a row that was not retried. A workflow without a parent is named."""
    STARTING = auto()
    """A parent names no such workflow, but has a sub-workflow that is starting, which can be this one."""
    REPLACED = auto()
    """A parent runs another sub-workflow in its place, or none."""
    UNREAD = auto()
    """The parents were not read up to the root, or form a cycle."""


class Evidence(Enum):
    """The evidence of Conductor's rows about an attempt that has published."""

    COUNTS = auto()
    """Its row has the start time of the attempt, or is completed and names the commit; and all parents name its
    workflow."""
    GONE = auto()
    """It never counts again: its row was removed, or a parent has retried its workflow or runs another one in its
    place."""
    OPEN = auto()
    """Its row was started again, or its workflow may be about to be named. A late report can still complete the row."""
    FORGOTTEN = auto()
    """As `GONE`, but a loop that keeps its last rounds only also removes the rows of valid rounds."""
    UNREAD = auto()
    """Its workflow was not read up to its root."""


class Family:
    """Workflows that were read, with their parents."""

    def __init__(self, workflows: Mapping[str, WorkflowRow | None]) -> None:
        """`workflows`: by id. None: Conductor does not have the workflow."""
        self._workflows = workflows
        self._rows: dict[str, dict[str, TaskRow]] = {}
        self._retried: dict[str, frozenset[str | None]] = {}

    def line(self, workflow_id: str) -> list[str]:
        """Return a workflow and its parents up to the root, as far as they were read. A cycle ends where it closes."""
        line = [workflow_id]
        while (row := self._workflows.get(line[-1])) and row.parent_id and row.parent_id not in line:
            line.append(row.parent_id)
        return line

    def unread(self, workflow_id: str) -> str | None:
        """Return the first workflow of the line that was not read, or None."""
        top = self.line(workflow_id)[-1]
        return None if top in self._workflows else top

    def is_known(self, workflow_id: str) -> bool:
        """Whether the line was read up to a root that Conductor has."""
        top = self._workflows.get(self.line(workflow_id)[-1])
        return top is not None and top.parent_id is None

    def has_ended_line(self, workflow_id: str) -> bool:
        """Whether Conductor no longer has a workflow of the line, so that the root is unknown for good."""
        top = self.line(workflow_id)[-1]
        return top in self._workflows and self._workflows[top] is None

    def is_same(self, workflow_id: str, other_id: str) -> bool:
        """Whether two workflows have the same root."""
        return self.line(workflow_id)[-1] == self.line(other_id)[-1]

    def workflow(self, workflow_id: str) -> WorkflowRow | None:
        """Return a workflow with its rows; None: it was not read, or Conductor does not have it."""
        return self._workflows.get(workflow_id)

    def place(self, workflow_id: str) -> Place:
        """Return whether the parents of a workflow name it."""
        if not self.is_known(workflow_id):
            return Place.UNREAD
        for child, parent in self._steps_up(workflow_id):
            row = self._row_of(child, parent)
            if row is None and any(_is_starting(other) for other in parent.rows):
                return Place.STARTING
            if row is None or self._has_retry(parent, row):
                return Place.REPLACED
        return Place.NAMED

    def evidence(self, commit: Commit, by: Origin, *, in_a_loop: bool) -> Evidence:
        """Return the evidence about the attempt `by`, which published `commit`. `in_a_loop`: whether the attempt was in
        a round of a loop."""
        place, workflow = self.place(by.workflow_id), self._workflows.get(by.workflow_id)
        row = self._row(by)
        if place is Place.UNREAD or workflow is None:
            return Evidence.UNREAD
        if place is Place.STARTING:
            return Evidence.OPEN
        if place is Place.REPLACED:
            return Evidence.FORGOTTEN if self._forgets_line(by.workflow_id) else Evidence.GONE
        if row is None:
            return Evidence.FORGOTTEN if in_a_loop and workflow.forgets_rounds else Evidence.GONE
        is_named = row.status == "COMPLETED" and row.published_commit == commit.id
        return Evidence.COUNTS if row.start_time == by.start_time or is_named else Evidence.OPEN

    def has_ended_optionally(self, by: Origin) -> bool:
        """Whether the attempt `by` was of an optional step that has ended, and whose failure was ignored."""
        row = self._row(by)
        return row is not None and row.is_optional and not row.is_open and row.status != "COMPLETED"

    def _forgets_line(self, workflow_id: str) -> bool:
        """Whether a parent no longer names the workflow below it, and can have forgotten a valid round."""
        return any(
            parent.forgets_rounds and self._row_of(child, parent) is None
            for child, parent in self._steps_up(workflow_id)
        )

    def inputs(self, workflow_ids: Collection[str]) -> set[str]:
        """Return the commits that the rows of these workflows have in their inputs."""
        workflows = filter(None, map(self._workflows.get, workflow_ids))
        return set[str]().union(*(row.input_commits for workflow in workflows for row in workflow.rows))

    def open_rows(self, workflow_id: str, task_id: str | None = None) -> Iterator[TaskRow]:
        """Yield the attempts and sub-workflows that are scheduled or running in a workflow and its parents: without the
        attempt `task_id`, without the sub-workflows that the line itself consists of, and without rows whose retry
        exists, because only the retry counts."""
        line = self.line(workflow_id)
        for depth, name in enumerate(line):
            if (workflow := self._workflows.get(name)) is None:
                continue
            for row in workflow.rows:
                is_of_line = row.task_id == task_id or (depth > 0 and row.sub_workflow_id == line[depth - 1])
                if row.is_open and not row.is_operator and not is_of_line and not self._has_retry(workflow, row):
                    yield row

    def _row(self, by: Origin) -> TaskRow | None:
        workflow = self._workflows.get(by.workflow_id)
        if workflow is None:
            return None
        if by.workflow_id not in self._rows:
            self._rows[by.workflow_id] = {row.task_id: row for row in workflow.rows}
        return self._rows[by.workflow_id].get(by.task_id)

    def _has_retry(self, workflow: WorkflowRow, row: TaskRow) -> bool:
        if workflow.workflow_id not in self._retried:
            self._retried[workflow.workflow_id] = frozenset(retry.retried_task_id for retry in workflow.rows)
        return row.task_id in self._retried[workflow.workflow_id]

    def _steps_up(self, workflow_id: str) -> Iterator[tuple[str, WorkflowRow]]:
        for child, parent_id in pairwise(self.line(workflow_id)):
            if (parent := self._workflows.get(parent_id)) is not None:
                yield child, parent

    @staticmethod
    def _row_of(child: str, parent: WorkflowRow | None) -> TaskRow | None:
        """Return the newest row that names a sub-workflow, or None."""
        rows = reversed(parent.rows) if parent is not None else iter(())
        return next((row for row in rows if row.sub_workflow_id == child), None)


def _is_starting(row: TaskRow) -> bool:
    return row.is_sub_workflow and row.is_open and row.sub_workflow_id is None
