"""Everything the model knows, and the few ways in which rows enter and change.

Nothing in here locks: `model.py` holds one lock around every call.
"""

from __future__ import annotations

import random
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any

from perago.embedded.conductor.errors import not_found
from perago.embedded.conductor.payloads import PayloadLimits, size_of
from perago.embedded.conductor.queue import NEVER, MessageQueue
from perago.embedded.conductor.rows import Status, TaskRow, WorkflowRow
from perago.ports import Clock

HttpHandler = Callable[[dict[str, Any]], tuple[int, Any]]
"""Answers an HTTP task: gets the request (`uri`, `method`, `headers`, `body`), gives status and body."""


class HistoryEvent(StrEnum):
    """What an entry of the history tells."""

    SCHEDULED = "scheduled"
    POLLED = "polled"
    UPDATED = "updated"
    IGNORED = "update ignored"
    LEASE_EXTENDED = "lease extended"
    CHANGED = "changed by Conductor"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One thing that happened to an attempt. `time` is in milliseconds since the epoch.

    The real server keeps no such list: an ignored update, for one, leaves no trace there.
    """

    time: int
    what: HistoryEvent
    workflow_id: str
    task_id: str
    reference_name: str
    status: str
    """After it happened."""
    poll_count: int
    worker_id: str | None


@dataclass(frozen=True, slots=True)
class LastPoll:
    """Who asked for a task type last, and when (ms). A poll counts when it is answered, however empty."""

    task_name: str
    worker_id: str | None
    time: int
    domain: str | None = None


class State:
    """Definitions, rows, queues, logs and the history of one model."""

    def __init__(
        self, clock: Clock, limits: PayloadLimits, seed: int | None, http_handler: HttpHandler | None = None
    ) -> None:
        self.limits = limits
        self.http_handler = http_handler
        self.random = random.Random(seed)  # noqa: S311 - ids and jitter, not secrets
        self.task_definitions: dict[str, dict[str, Any]] = {}
        self.workflow_definitions: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        self.workflows: dict[str, WorkflowRow] = {}
        self.tasks: dict[str, TaskRow] = {}
        self.queue = MessageQueue()
        self.logs: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.last_polls: dict[tuple[str, str | None], LastPoll] = {}
        """By task type and domain."""
        self.history: list[HistoryEntry] = []
        self.attention: dict[str, bool] = {}
        """Workflows that the server's own workers have yet to look at, and whether to decide them (`background`)."""
        self.timers: dict[str, int] = {}
        """When those workers take up an attempt that is theirs, by task id (ms)."""
        self.sub_workflows: dict[tuple[str, int], str] = {}
        """The first workflow that an attempt started, by its task id and retry count."""
        self._clock = clock

    def now(self) -> int:
        """Milliseconds since the epoch."""
        return round(self._clock.now() * 1000)

    def new_id(self) -> str:
        """A fresh id, the same one in every run with the same seed."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def workflow(self, operation: str, workflow_id: str) -> WorkflowRow:
        """The workflow row, or a 404 on behalf of `operation`."""
        try:
            return self.workflows[workflow_id]
        except KeyError:
            raise not_found(operation, f"No such workflow found by id: {workflow_id}") from None

    def record(self, what: HistoryEvent, row: TaskRow) -> None:
        """Add to the history."""
        self.history.append(
            HistoryEntry(
                time=self.now(),
                what=what,
                workflow_id=row.workflow_id,
                task_id=row.task_id,
                reference_name=row.reference_name,
                status=row.status.value,
                poll_count=row.poll_count,
                worker_id=row.worker_id,
            )
        )

    def create(self, workflow: WorkflowRow, row: TaskRow) -> bool:
        """Add a fresh attempt to its workflow; False if that attempt of the step is there already.

        A retry that uses its own row again counts as fresh.
        """
        now = self.now()
        row.seq = row.seq or max((other.seq for other in workflow.tasks), default=0) + 1
        row.first_scheduled_time = row.first_scheduled_time or now
        row.scheduled_time = now
        taken = [other.task_id for other in workflow.tasks if other.step_key == row.step_key]
        if any(task_id != row.task_id for task_id in taken):
            return False
        self._limit_input(row)
        row.listed = not row.status.terminal
        self._keep(workflow, row)
        self.record(HistoryEvent.SCHEDULED, row)
        return True

    def place(self, workflow: WorkflowRow, row: TaskRow) -> None:
        """Add a row that has its times and its number already."""
        self._keep(workflow, row)
        self.record(HistoryEvent.CHANGED, row)

    def enqueue(self, row: TaskRow) -> None:
        """Queue `row` with the delay that it carries; one below zero is none."""
        self._queue(row, self.now() + max(0, row.callback_after_ms or row.callback_after_seconds * 1000))

    def postpone(self, row: TaskRow) -> None:
        """Queue `row` as a new message, with the delay that an update gave it.

        One that waited already loses its place, and a delay below zero never passes: the server computes no time for
        it, so that no poll gets the attempt and no JOIN is looked at again until another update queues it anew, or, for
        a worker's attempt, a requeue (seen on 3.32.3 for 70 s and through decisions, pauses and time-outs).
        """
        self.queue.remove(row.task_id)
        self._queue(row, NEVER if row.callback_after_seconds < 0 else self.now() + row.callback_after_seconds * 1000)

    def _queue(self, row: TaskRow, due: int) -> None:
        self.queue.push(row, due)
        if row.kind != "SIMPLE":
            self.timers[row.task_id] = due

    def store(self, row: TaskRow, what: HistoryEvent) -> None:
        """Make `row` what every call sees from now on, with the times that an update moves.

        `update_time` of a finished attempt stays what it was (`docs/servers/conductor.md` 2).
        """
        now = self.now()
        if not row.status.terminal or row.update_time == 0:
            row.update_time = now
        if row.status.terminal and row.end_time == 0:
            row.end_time = now
        if row.status.terminal:
            self.timers.pop(row.task_id, None)
        if row.status is not Status.IN_PROGRESS and row.definition.get("concurrentExecLimit"):
            self.queue.release(row.task_type, now)
        self._limit_output(row)
        row.listed = row.listed and not row.status.terminal
        self._keep(self.workflows[row.workflow_id], row)
        self.record(what, row)

    def _keep(self, workflow: WorkflowRow, row: TaskRow) -> None:
        """What is stored is a copy: later changes of `row` concern its holder only."""
        kept = self.tasks[row.task_id] = row.copy()
        others = [other for other in workflow.tasks if other.task_id != row.task_id]
        workflow.tasks[:] = sorted([*others, kept], key=attrgetter("seq"))
        self.call_attention(workflow.workflow_id)

    def call_attention(self, workflow_id: str, *, decide: bool = False) -> None:
        """Let the server's own workers look at a workflow, or let it be decided, once the call has been served."""
        self.attention[workflow_id] = decide or self.attention.get(workflow_id, False)

    def store_workflow(self, workflow: WorkflowRow) -> None:
        """Move the times that every update of a workflow moves."""
        workflow.update_time = self.now()
        if workflow.status.terminal:
            workflow.end_time = workflow.update_time

    def remove_task(self, row: TaskRow) -> None:
        """Forget an attempt: reading it is a 404 from now on."""
        self.queue.remove(row.task_id)
        self.timers.pop(row.task_id, None)
        self.tasks.pop(row.task_id, None)
        tasks = self.workflows[row.workflow_id].tasks
        tasks[:] = [other for other in tasks if other.task_id != row.task_id]
        self.record(HistoryEvent.REMOVED, row)

    def _limit_input(self, row: TaskRow) -> None:
        size = size_of(row.input)
        if size > self.limits.maximum:
            row.input = {}
            self._fail_by_size(row, size)
        elif size > self.limits.external:
            row.external_input = f"{self.new_id()}.json"

    def _limit_output(self, row: TaskRow) -> None:
        size = size_of(row.output)
        if size > self.limits.maximum:
            row.output = {}
            self._fail_by_size(row, size)
        elif size > self.limits.external and row.external_output is None:
            row.external_output = f"{self.new_id()}.json"

    def _fail_by_size(self, row: TaskRow, size: int) -> None:
        row.status = Status.FAILED_WITH_TERMINAL_ERROR
        row.reason = (
            f"The payload size: {size} of task: {row.task_id} in workflow: {row.workflow_id}  "
            f"is greater than the permissible limit: {self.limits.maximum} bytes"
        )
