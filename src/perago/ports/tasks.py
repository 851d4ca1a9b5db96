"""The seam to Conductor: attempts that are delivered, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from perago.ports.trace import Trace

UNTIL_ITS_RETRY_ENDS = 5
"""Seconds before an attempt that waits for the end of its retry is handed out again."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One hand-over of an attempt to a worker.

    `(task_id, poll_count, start_time)` is its identity: rerun and redelivery keep the task id
    (`docs/servers/conductor.md` 9). Times are milliseconds since the epoch, durations seconds.
    """

    task_id: str
    poll_count: int
    start_time: int
    task_name: str
    workflow_id: str
    reference_name: str
    iteration: int
    retry_count: int
    retried_task_id: str | None
    input: Mapping[str, Any]
    external_input: bool = False
    """Conductor moved the input to external storage, so `input` is empty (from about 4 MB)."""
    input_is_too_deep: bool = False
    """The input is nested too deeply to be read, so `input` is empty."""
    retried: bool = False
    """A retry has taken its place. Conductor hands such attempts out again when a workflow is rerun from a later step,
    waits for their end, and ignores how they end. Where that rerun has removed the retry, the attempt counts again, and
    this is false."""
    retry_output: Mapping[str, Any] | None = None
    """What the retry has reported, where Conductor has forgotten that there was one: it begins a cancelled attempt
    again when a sub-workflow beside it continues, and then a failure of this attempt would count."""
    response_timeout_seconds: float = 600
    timeout_seconds: float = 0
    """0: no limit."""
    spent_seconds: float = 0
    """How long before this delivery the attempt was delivered first, by Conductor's clock; 0 for a first delivery."""
    waited_seconds: float = 0
    """How long it was in Conductor's queue, by Conductor's clock."""
    trace: Trace | None = None
    """None: the worker sends no traces."""

    @property
    def identity(self) -> tuple[str, int, int]:
        return (self.task_id, self.poll_count, self.start_time)


class TaskStatus(StrEnum):
    """The statuses that perago reports, spelled as Conductor spells them."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    FAILED_WITH_TERMINAL_ERROR = "FAILED_WITH_TERMINAL_ERROR"


@dataclass(frozen=True, slots=True)
class Report:
    """What Conductor is told about a finished delivery. `reason` is at most 500 characters (the server cuts there)."""

    status: TaskStatus
    output: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """What Conductor knows today of an attempt. `start_time` is 0 for one that was never polled, or is to run again."""

    task_id: str
    start_time: int
    retried_task_id: str | None


ANY_WORKFLOW = "*"
"""In `WorkflowRow.looped`: the name of a sub-workflow is chosen while the workflow runs."""


@dataclass(frozen=True, slots=True)
class WorkflowRow:
    """What Conductor knows today of a workflow, so far as it tells one run from another."""

    workflow_id: str
    start_time: int
    """When its present run began, in milliseconds: a restart sets it anew."""
    parent_id: str | None = None
    """The workflow that it is a sub-workflow of."""
    name: str = ""
    """The name of its definition; empty: unknown."""
    children: frozenset[str] = frozenset()
    """The sub-workflows that its tasks name now. Those of a run before, and of attempts that were retried, are not
    among them."""
    replaced: frozenset[str] = frozenset()
    """The sub-workflows of attempts that were retried."""
    looped: frozenset[str] = frozenset()
    """Names of the sub-workflows that its loops can run. Conductor may forget tasks of a loop that are still good."""
    is_starting: bool = False
    """A sub-workflow is about to start, or runs already without being named yet."""


def looped_names(steps: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the names of the sub-workflows that the loops among some workflow tasks, given as JSON, can run."""
    found, pending = set[str](), [(step, False) for step in steps]
    while pending:
        step, is_looped = pending.pop()
        kind = step.get("type")
        is_looped = is_looped or kind == "DO_WHILE"
        if is_looped and kind in ("SUB_WORKFLOW", "DYNAMIC", "FORK_JOIN_DYNAMIC"):
            param = step.get("subWorkflowParam") or {}
            definition = param.get("workflowDefinition")
            name = definition.get("name") if isinstance(definition, Mapping) else definition or param.get("name")
            found.add(name if isinstance(name, str) and "${" not in name else ANY_WORKFLOW)
        cases = (step.get("decisionCases") or {}).values()
        branches = (*cases, *(step.get("forkTasks") or ()), step.get("defaultCase"), step.get("loopOver"))
        pending += [(inner, is_looped) for branch in branches for inner in branch or ()]
    return frozenset(found)


class DeliveryCheck(Protocol):
    """Answers the one question that stands before every step that cannot be taken back."""

    def is_current(self, delivery: Delivery) -> bool:
        """Whether this is still the delivery that Conductor is waiting for. Reads the task; never guesses.

        Raises:
            ServiceError: no answer; the caller must not take silence for a yes or a no.
        """
        ...

    def read_attempt(self, delivery: Delivery, task_id: str) -> AttemptRow | None:
        """The row of any attempt, for the recovery of `delivery`; None: Conductor says that there is none (its workflow
        was restarted, rerun from an earlier step, or removed).

        Raises:
            ServiceError: no answer.
        """
        ...

    def read_workflow(self, delivery: Delivery, workflow_id: str) -> WorkflowRow | None:
        """What Conductor knows of any workflow, for the recovery of `delivery`; None: there is none, by its own word.

        Raises:
            ServiceError: no answer.
        """
        ...


class TaskQueue(DeliveryCheck, Protocol):
    """What a worker needs from Conductor. Every method may raise any `ServiceError`; each has a time limit."""

    def poll(self, task_name: str, worker_id: str, *, count: int, wait_seconds: float) -> Sequence[Delivery]:
        """Take up to `count` deliveries; returns early once `count` are there, at the latest after `wait_seconds`
        (at most 5). An attempt that can only report what its retry reports goes back until the retry has ended."""
        ...

    def queue_depths(self, task_names: Sequence[str]) -> Mapping[str, int]:
        """How many attempts each queue holds, those included that are not due yet; 0 for a queue that is not known."""
        ...

    def extend_lease(self, delivery: Delivery) -> None:
        """Move the response time-out. Says nothing about whether the delivery is still mine: ask `is_current` first."""
        ...

    def hand_back(self, delivery: Delivery, seconds: int = 0) -> None:
        """Give an attempt back for redelivery to any poller, after `seconds`."""
        ...

    def report(self, delivery: Delivery, report: Report, worker_id: str) -> None:
        """Send the final status. Success does not mean that it was accepted (`docs/servers/conductor.md` 7.2)."""
        ...

    def add_log(self, task_id: str, text: str) -> None:
        """Append one entry to the task's log."""
        ...

    def get_task_definition(self, name: str) -> Mapping[str, Any] | None:
        """The registered TaskDef as JSON, or None."""
        ...

    def register_task_definitions(self, definitions: Sequence[Mapping[str, Any]]) -> None:
        """Create or replace TaskDefs."""
        ...

    def close(self) -> None:
        """Give back connections and threads."""
        ...
