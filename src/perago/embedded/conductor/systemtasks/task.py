"""The one interface behind which each of the server's own task types lives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from perago.embedded.conductor.rows import TaskRow
from perago.embedded.conductor.state import State
from perago.embedded.conductor.steps import Step

if TYPE_CHECKING:
    from perago.embedded.conductor.turn import Turn


class SystemTask:
    """A task type that the server works on itself. Rows are working copies; the caller stores them."""

    kind: ClassVar[str]
    """Its `type` in a workflow definition."""
    fields: ClassVar[frozenset[str]] = frozenset()
    """The fields of a workflow task that mean something to it, beyond those of every task."""
    background: ClassVar[bool] = False
    """The server's workers take it up after the decision that scheduled it, not within."""
    ends_by_itself: ClassVar[bool] = True
    """False: once started, something else ends it, and nobody looks at it again."""
    resumes: ClassVar[bool] = False
    """A retry or a rerun goes on with the row; no new one is made."""
    iterates: ClassVar[bool] = False
    """The iteration of its row is its own, not that of a loop around it."""
    joins: ClassVar[bool] = False
    """It waits for other steps, and looks at them again when one that had failed goes on."""
    ends_workflow: ClassVar[bool] = False
    """Once it is COMPLETED, so is the workflow, or what else its row says."""
    retriable: ClassVar[bool] = True
    """Conductor retries it like a worker's task if it has a task definition that says so."""

    def check(self, step: Step, where: str) -> None:
        """Raise `NotImplementedError` for what the model does not have of this task type."""

    def problems(self, step: Step) -> Iterator[str]:  # noqa: ARG002 - the interface
        """What the server's validation says when the definition is registered."""
        yield from ()

    def rows(self, turn: Turn, step: Step, retry_count: int) -> list[TaskRow]:
        """The rows that scheduling the step adds, its own first."""
        raise NotImplementedError(self.kind)

    def start(self, turn: Turn, row: TaskRow) -> None:
        """Begin."""

    def execute(self, turn: Turn, row: TaskRow) -> bool:  # noqa: ARG002 - the interface
        """Go on; whether that has changed the row, so that the workflow needs another decision."""
        return False

    def leads_on(self, row: TaskRow) -> bool:  # noqa: ARG002 - the interface
        """Whether the end of its row is followed by the next step; else the steps inside of it are."""
        return True

    def ends_with(self, state: State, row: TaskRow) -> str | None:  # noqa: ARG002 - the interface
        """The id of the workflow that is terminated when this row is cancelled."""
        return None


def required(step: Mapping[str, Any], field: str) -> str:
    """The server's complaint about a missing field."""
    return f"{field} field is required for taskType: {step['type']} taskName: {step['name']}"


def not_modelled(where: str, what: str) -> NotImplementedError:
    """The refusal of a part that the model does not have."""
    return NotImplementedError(f"InMemoryConductor: {where}: {what} is not modelled; run it on a real Conductor")
