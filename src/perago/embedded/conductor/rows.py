"""The rows of the model: one per attempt, one per workflow.

Payload fields are never changed in place, only replaced, so that copies of a row may share them.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from perago.embedded.conductor.payloads import MAX_REASON


class Status(StrEnum):
    """The life of an attempt."""

    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    COMPLETED_WITH_ERRORS = "COMPLETED_WITH_ERRORS"
    FAILED = "FAILED"
    FAILED_WITH_TERMINAL_ERROR = "FAILED_WITH_TERMINAL_ERROR"
    TIMED_OUT = "TIMED_OUT"
    CANCELED = "CANCELED"
    SKIPPED = "SKIPPED"

    @property
    def terminal(self) -> bool:
        return self not in (Status.SCHEDULED, Status.IN_PROGRESS)

    @property
    def unsuccessful(self) -> bool:
        return self in (Status.FAILED, Status.FAILED_WITH_TERMINAL_ERROR, Status.TIMED_OUT, Status.CANCELED)

    @property
    def retriable(self) -> bool:
        """Whether Conductor itself retries it while the budget lasts."""
        return self in (Status.FAILED, Status.TIMED_OUT)


class WorkflowStatus(StrEnum):
    """The life of a workflow."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    TERMINATED = "TERMINATED"

    @property
    def terminal(self) -> bool:
        return self not in (WorkflowStatus.RUNNING, WorkflowStatus.PAUSED)


@dataclass(slots=True)
class TaskRow:
    """One attempt. Times are milliseconds since the epoch, 0 for not yet."""

    task_id: str
    workflow_id: str
    workflow_name: str
    task_type: str
    task_name: str
    """Like the type, but for the server's own tasks, which have a name beside their type."""
    reference_name: str
    definition: dict[str, Any]
    """The task definition as it was when the workflow started (`docs/servers/conductor.md` 2)."""
    workflow_task: dict[str, Any]
    priority: int
    correlation_id: str | None
    input: dict[str, Any]
    status: Status = Status.SCHEDULED
    seq: int = 0
    iteration: int = 0
    """Of the loop around it, or the loop's own; 0 outside of loops."""
    domain: str | None = None
    retry_count: int = 0
    retried_task_id: str | None = None
    retried: bool = False
    executed: bool = False
    poll_count: int = 0
    scheduled_time: int = 0
    first_scheduled_time: int = 0
    start_time: int = 0
    update_time: int = 0
    end_time: int = 0
    start_delay_seconds: int = 0
    callback_after_seconds: int = 0
    callback_after_ms: int = 0
    reason: str | None = None
    worker_id: str | None = None
    output: dict[str, Any] = field(default_factory=dict)
    external_input: str | None = None
    external_output: str | None = None
    response_timeout_seconds: int = 0
    """What the row shows; the time-out itself is that of the definition."""
    rate_limit: tuple[int, int] = (0, 0)
    """Per frequency, and the frequency in seconds."""
    attached_workflow_id: str | None = None
    """The child of a sub-workflow step, as far as the row itself says; a result of the step by hand takes it off."""
    sub_workflow_changed: bool = False
    wait_until: int = 0
    listed: bool = False
    """Whether the server lists it among the open attempts of its type. That begins when it is created and is over for
    good when it ends, even if it is run again."""

    def copy(self) -> TaskRow:
        """A row that can change without this one noticing."""
        return copy(self)

    @property
    def retry_budget(self) -> int:
        """Retries allowed: those of the workflow task, else of the task definition."""
        override = self.workflow_task.get("retryCount")
        return int(self.definition["retryCount"] if override is None else override)

    @property
    def is_permissive(self) -> bool:
        """Whether its failure leaves the workflow running, which fails with the JOIN or when it would complete."""
        return bool(self.workflow_task["permissive"]) and not self.workflow_task["optional"]

    @property
    def sub_workflow_id(self) -> str | None:
        """The child of a sub-workflow step. What the row does not say is looked up in its output and its input."""
        key = "subWorkflowId"
        found = self.attached_workflow_id or self.output.get(key) or self.input.get(key)
        return None if found is None else str(found)

    @property
    def shown_reason(self) -> str | None:
        """What answers tell of the reason. Decisions know all of it, so that the reason of a workflow may be longer."""
        return None if self.reason is None else self.reason[:MAX_REASON]

    @property
    def step_key(self) -> tuple[str, int]:
        """No two attempts of a workflow share it."""
        return self.reference_name, self.retry_count

    @property
    def kind(self) -> str:
        """The `type` of its workflow task; SIMPLE is for workers, the others are the server's own."""
        return str(self.workflow_task["type"])

    @property
    def queue_name(self) -> str:
        """Where workers of its type and domain look for it."""
        return queue_name(self.task_type, self.domain)


def queue_name(task_type: str, domain: str | None) -> str:
    """The queue of a task type, or of that part of it that is meant for the workers of one domain."""
    return f"{domain}:{task_type}" if domain else task_type


@dataclass(slots=True)
class WorkflowRow:
    """One workflow and its attempts in the order of their `seq`."""

    workflow_id: str
    definition: dict[str, Any]
    input: dict[str, Any]
    create_time: int
    priority: int = 0
    correlation_id: str | None = None
    status: WorkflowStatus = WorkflowStatus.RUNNING
    update_time: int = 0
    end_time: int = 0
    last_retried_time: int = 0
    reason: str | None = None
    output: dict[str, Any] = field(default_factory=dict)
    failed_references: list[str] = field(default_factory=list)
    failed_tasks: list[str] = field(default_factory=list)
    parent_id: str | None = None
    parent_task_id: str | None = None
    """The attempt of the parent that this workflow is the work of."""
    task_to_domain: dict[str, str] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)
    tasks: list[TaskRow] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.definition["name"])

    @property
    def version(self) -> int:
        return int(self.definition["version"])

    def __str__(self) -> str:
        return f"{self.name}.{self.version}/{self.workflow_id}"
