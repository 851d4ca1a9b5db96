"""The state of the model: rows of attempts and workflows, queues, and the steps of definitions. Payload fields are
never changed in place, only replaced, so that copies of a row can share them. Nothing here locks, because `model.py`
holds one lock around everything."""

from __future__ import annotations

import itertools
import random
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from enum import StrEnum
from operator import attrgetter
from typing import Any

from perago.conductor_json import every_step, inner_steps
from perago.embedded.conductor.wire import EXTERNAL_BYTES, MAX_BYTES, MAX_REASON, not_found, size_of
from perago.embedded.journal import Journal, Table
from perago.ports import Clock

Step = dict[str, Any]
"""One workflow task as `workflowdefs` has parsed it: every field that can hold steps is there."""

OPERATORS: set[str] = set()
"""The types of steps that the server works on itself; classes of `SystemTask` register themselves."""

_ITERATION = "__"


def holds(step: Mapping[str, Any], reference: str) -> bool:
    """Whether a step with that reference name is inside `step`."""
    inside = (inner for branch in inner_steps(step) for inner in every_step(branch))
    return any(inner["taskReferenceName"] == reference for inner in inside)


def following(steps: Sequence[Step], reference: str) -> Step | None:
    """Return the step after this one, or after the structure that ends with this one.

    Nothing comes after the end of a loop's body: the loop itself decides that. Nothing comes after TERMINATE.
    """
    return _search(steps, reference, None)[1]


def _search(steps: Sequence[Step], reference: str, behind: Step | None) -> tuple[bool, Step | None]:
    """Return whether the step was found inside, and the step after it. `behind` follows the last one."""
    for index, step in enumerate(steps):
        successor = steps[index + 1] if index + 1 < len(steps) else behind
        if step["taskReferenceName"] == reference:
            return True, None if step["type"] == "TERMINATE" else successor
        for branch in inner_steps(step):
            is_inside, after = _search(branch, reference, None if step["type"] == "DO_WHILE" else successor)
            if is_inside:
                return True, after
    return False, None


def with_iteration(reference: str, iteration: int) -> str:
    """Return the reference name of a step in one iteration of its loop: `ref__1` (`docs/dev/servers/conductor.md`,
    "Attempt state machine")."""
    return f"{reference}{_ITERATION}{iteration}"


def without_iteration(reference: str) -> str:
    """Return the reference name of the step in its definition."""
    return reference.split(_ITERATION)[0] or reference


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
    """Like the type, but for the server's own tasks, which have a name in addition to their type."""
    reference_name: str
    definition: dict[str, Any]
    """The task definition as it was when the workflow started (`docs/dev/servers/conductor.md`, "Attempt state
    machine")."""
    workflow_task: dict[str, Any]
    priority: int
    correlation_id: str | None
    input: dict[str, Any]
    status: Status = Status.SCHEDULED
    seq: int = 0
    iteration: int = 0
    """The iteration of the loop around it, or the loop's own. 0 outside of loops."""
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
    """The value that the row shows; the timeout itself is that of the definition."""
    rate_limit: tuple[int, int] = (0, 0)
    """Per frequency, and the frequency in seconds."""
    attached_workflow_id: str | None = None
    """The child of a sub-workflow step, as far as the row itself says; a result of the step by hand takes it off."""
    sub_workflow_changed: bool = False
    wait_until: int = 0
    listed: bool = False
    """Whether the server lists it among the open attempts of its type. That begins at its creation and ends for good at
    its end, even if it is run again."""

    def copy(self) -> TaskRow:
        """Return an independent copy of the row."""
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
        """Return the child of a sub-workflow step. Values that are not in the row come from its output and its
        input."""
        key = "subWorkflowId"
        child_id = self.attached_workflow_id or self.output.get(key) or self.input.get(key)
        return None if child_id is None else str(child_id)

    @property
    def shown_reason(self) -> str | None:
        """The reason that answers show. Decisions use the full text, so the reason of a workflow can be longer."""
        return None if self.reason is None else self.reason[:MAX_REASON]

    @property
    def step_key(self) -> tuple[str, int]:
        """The key of an attempt, which is unique in its workflow."""
        return self.reference_name, self.retry_count

    @property
    def kind(self) -> str:
        """The `type` of its workflow task; SIMPLE is for workers, the others are the server's own.

        The server also works on a SIMPLE task that has the name of an operator.
        """
        kind = str(self.workflow_task["type"])
        return self.task_type if kind == "SIMPLE" and self.task_type in OPERATORS else kind

    @property
    def queue_name(self) -> str:
        """The queue in which workers of its type and domain look for it."""
        return queue_name(self.task_type, self.domain)


def queue_name(task_type: str, domain: str | None) -> str:
    """Return the queue of a task type, or of its part for the workers of one domain."""
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
    origin: str | None = None
    """The workflow from which the server started it, directly or through others; None: a client started it."""
    planned_starts: int = 0
    """The time (ms) of the last start that is planned for the workflows with this origin, less those that are
    immediate."""

    @property
    def name(self) -> str:
        return str(self.definition["name"])

    @property
    def version(self) -> int:
        return int(self.definition["version"])

    def __str__(self) -> str:
        return f"{self.name}.{self.version}/{self.workflow_id}"


STARTERS = ("SUB_WORKFLOW", "START_WORKFLOW")
"""The types of steps that start workflows."""

STARTS_AT_ONCE, START_MS = 200, 100
"""All workflows of one origin start that many others immediately, then one each 100 ms."""

NEVER = 2**63 - 1
"""The `due` of a message that no poll gets until it is queued again."""


@dataclass(frozen=True, slots=True)
class Message:
    """One attempt that waits to be polled. `due` is in milliseconds since the epoch."""

    task_id: str
    queue_name: str
    priority: int
    due: int
    order: int
    limited: bool = False
    """Whether it was blocked by a full `concurrentExecLimit` and waits for a free slot."""


class MessageQueue:
    """All queues of one model. Delayed messages count in the size but are not handed out."""

    def __init__(self, journal: Journal) -> None:
        self.messages: Table[str, Message] = Table(journal, "queue")
        """By task id."""
        self._order = itertools.count()
        self.pushes: int = 0
        """The number of changes of the queues: a poll that waits checks the queue again when this has changed."""

    def push(self, row: TaskRow, due: int, *, limited: bool = False) -> None:
        """Queue `row`, or move its message to another time."""
        self.pushes += 1
        known = self.messages.get(row.task_id)
        order = next(self._order) if known is None else known.order
        self.messages[row.task_id] = Message(row.task_id, row.queue_name, row.priority, due, order, limited)

    def restore(self) -> None:
        """Number further messages behind those that were put back into a fresh queue."""
        self._order = itertools.count(1 + max((message.order for message in self.messages.values()), default=-1))

    def release(self, task_type: str, now: int) -> None:
        """A slot of a limited type is free, so attempts that wait for one are due now."""
        for message in list(self.messages.values()):
            if message.limited and message.queue_name.rpartition(":")[2] == task_type:
                self.messages[message.task_id] = replace(message, due=now, limited=False)
                self.pushes += 1

    def remove(self, task_id: str) -> None:
        """Forget the message, if it exists."""
        self.messages.pop(task_id, None)

    def take(self, queue_name: str, count: int, now: int) -> list[str]:
        """Remove up to `count` due messages and return their task ids.

        They are chosen by priority (highest first), due time and creation, but a batch comes in order of creation
        (`docs/dev/servers/conductor.md`, "Queue semantics").
        """
        chosen = self.waiting(queue_name, now)[: max(0, count)]
        for message in chosen:
            del self.messages[message.task_id]
        return [message.task_id for message in sorted(chosen, key=attrgetter("order"))]

    def waiting(self, queue_name: str, now: int | None = None) -> list[Message]:
        """Messages in the order of single polls: those due at `now`, or all."""
        messages = [m for m in self.messages.values() if m.queue_name == queue_name and (now is None or m.due <= now)]
        return sorted(messages, key=lambda m: (-m.priority, m.due, m.order))

    def size(self, queue_name: str) -> int:
        """Count the messages, delayed ones included."""
        return len(self.waiting(queue_name))

    def next_due(self, now: int) -> int | None:
        """Return the time at which the next delayed message of any queue is due, or None."""
        return min((message.due for message in self.messages.values() if message.due > now), default=None)

    def sizes(self) -> dict[str, int]:
        """Return the number of messages of every queue that has some, by its name."""
        return dict(sorted(Counter(message.queue_name for message in self.messages.values()).items()))


HttpHandler = Callable[[dict[str, Any]], tuple[int, Any]]
"""Answers an HTTP task: gets the request (`uri`, `method`, `headers`, `body`), gives status and body."""


class HistoryEvent(StrEnum):
    """The kind of an entry of the history."""

    SCHEDULED = "scheduled"
    POLLED = "polled"
    UPDATED = "updated"
    IGNORED = "update ignored"
    LEASE_EXTENDED = "lease extended"
    CHANGED = "changed by Conductor"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One event of an attempt. `time` is in milliseconds since the epoch. The real server has no such list: an ignored
    update leaves no trace there."""

    time: int
    what: HistoryEvent
    workflow_id: str
    task_id: str
    reference_name: str
    status: str
    """The status after the event."""
    poll_count: int
    worker_id: str | None


@dataclass(frozen=True, slots=True)
class LastPoll:
    """The last worker that asked for a task type, and when (ms). A poll counts when it is answered, even without
    tasks."""

    task_name: str
    worker_id: str | None
    time: int
    domain: str | None = None


class State:
    """Definitions, rows, queues, logs and the history of one model."""

    def __init__(self, clock: Clock, seed: int | None, http_handler: HttpHandler | None = None) -> None:
        self.http_handler = http_handler
        self.random: random.Random = random.Random(seed)  # noqa: S311 - ids and jitter, not secrets
        self.journal: Journal = Journal()
        self.task_definitions: Table[str, dict[str, Any]] = Table(self.journal, "task_definitions")
        self.workflow_definitions: Table[str, dict[int, dict[str, Any]]] = Table(self.journal, "workflow_definitions")
        """By name and version."""
        self.schedules: Table[str, dict[str, Any]] = Table(self.journal, "schedules")
        self.workflows: Table[str, WorkflowRow] = Table(self.journal, "workflows")
        self.tasks: Table[str, TaskRow] = Table(self.journal, "tasks")
        self.queue: MessageQueue = MessageQueue(self.journal)
        self.logs: dict[str, Table[int, dict[str, Any]]] = {}
        """By task id and number."""
        self.last_polls: dict[tuple[str, str | None], LastPoll] = {}
        """By task type and domain."""
        self.history: Table[int, HistoryEntry] = Table(self.journal, "history")
        """By number."""
        self.problems: dict[str, str] = {}
        """The last reason for which a workflow could not be decided, by its id."""
        self.attention: dict[str, bool] = {}
        """Workflows that the server's own workers must still check, and whether to decide them (`lifecycle`)."""
        self.timers: Table[str, int] = Table(self.journal, "timers")
        """The times (ms) at which those workers start their attempts, by task id, and those of schedules."""
        self.sub_workflows: Table[tuple[str, int], str] = Table(self.journal, "sub_workflows")
        """The first workflow that an attempt started, by its task id and retry count."""
        self.between_writes: Callable[[], None] = lambda: None
        """Called where a real server lets other callers act: before it stores a row that it has read."""
        self._clock = clock

    def now(self) -> int:
        """Return milliseconds since the epoch."""
        return round(self._clock.now() * 1000)

    def new_id(self) -> str:
        """Return a fresh id, the same one in every run with the same seed."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def workflow(self, operation: str, workflow_id: str) -> WorkflowRow:
        """Return the workflow row, or a 404 on behalf of `operation`."""
        try:
            return self.workflows[workflow_id]
        except KeyError:
            raise not_found(operation, f"No such workflow found by id: {workflow_id}") from None

    def record(self, what: HistoryEvent, row: TaskRow) -> None:
        """Add to the history."""
        place = (row.workflow_id, row.task_id, row.reference_name)
        entry = HistoryEntry(self.now(), what, *place, row.status.value, row.poll_count, row.worker_id)
        self.history[len(self.history)] = entry

    def logs_of(self, task_id: str) -> Table[int, dict[str, Any]]:
        """Return the log entries of a task by number, to be added to, whether the task exists or not."""
        return self.logs.setdefault(task_id, Table(self.journal, "logs", task_id))

    def add_log(self, task_id: str, text: str, created: int) -> None:
        """Append one entry, whether the task exists or not. `created` is in milliseconds."""
        entries, shown = self.logs_of(task_id), text.encode(errors="replace").decode()
        entries[len(entries)] = {"log": shown, "taskId": task_id, "createdTime": created}

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
        row.input, row.external_input = self._limited(row, row.input)
        row.listed = not row.status.terminal
        self._keep(workflow, row)
        self.record(HistoryEvent.SCHEDULED, row)
        return True

    def place(self, workflow: WorkflowRow, row: TaskRow) -> None:
        """Add a row that has its times and its number already."""
        self._keep(workflow, row)
        self.record(HistoryEvent.CHANGED, row)

    def enqueue(self, row: TaskRow) -> None:
        """Queue `row` with the delay that it carries; a delay below zero counts as no delay."""
        self._queue(row, self.now() + max(0, row.callback_after_ms or row.callback_after_seconds * 1000))

    def postpone(self, row: TaskRow) -> None:
        """Queue `row` as a new message, with the delay that an update gave it.

        One that waited already loses its place, and a delay below zero never passes: the server computes no time for
        it, so that no poll gets the attempt and no JOIN is checked again until another update queues it again, or,
        for a worker's attempt, a requeue (seen on 3.32.3 for 70 s and through decisions, pauses and timeouts).
        """
        self.queue.remove(row.task_id)
        self._queue(row, NEVER if row.callback_after_seconds < 0 else self.now() + row.callback_after_seconds * 1000)

    def _queue(self, row: TaskRow, due: int) -> None:
        self.queue.push(row, due)
        if row.kind in STARTERS:
            due = max(due, self.next_start(self.workflows[row.workflow_id]))
        if row.kind != "SIMPLE":
            self.timers[row.task_id] = due

    def next_start(self, starter: WorkflowRow, weight: int = 1) -> int:
        """Return the time (ms) at which `starter` may start a further workflow.

        A real server needs 50 to 300 ms for a start, the model no time. So the starts of nested workflows are delayed
        if there are many. A workflow that contains itself would never settle otherwise. `weight` is the number of
        starts that this one counts as.
        """
        now = self.now()
        if starter.origin is None:
            return now
        origin = self.workflows.get(starter.origin, starter)
        origin.planned_starts = max(origin.planned_starts, now - STARTS_AT_ONCE * START_MS) + weight * START_MS
        self.workflows.touch(origin.workflow_id)
        return max(now, origin.planned_starts)

    def store(self, row: TaskRow, what: HistoryEvent) -> None:
        """Make `row` visible to every call from now on, with the times that an update sets.

        `update_time` of a finished attempt does not change (`docs/dev/servers/conductor.md`, "Attempt state machine").
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
        row.output, moved = self._limited(row, row.output)
        row.external_output = row.external_output or moved
        row.listed = row.listed and not row.status.terminal
        self._keep(self.workflows[row.workflow_id], row)
        self.record(what, row)

    def _keep(self, workflow: WorkflowRow, row: TaskRow) -> None:
        """Store a copy, so that later changes of `row` have no effect here."""
        stored = self.tasks[row.task_id] = row.copy()
        others = [other for other in workflow.tasks if other.task_id != row.task_id]
        workflow.tasks[:] = sorted([*others, stored], key=attrgetter("seq"))
        self.call_attention(workflow.workflow_id)

    def call_attention(self, workflow_id: str, *, decide: bool = False) -> None:
        """Let the server's own workers check a workflow, or decide it, after the call has been served."""
        self.attention[workflow_id] = decide or self.attention.get(workflow_id, False)
        self.workflows.touch(workflow_id)

    def store_workflow(self, workflow: WorkflowRow) -> None:
        """Move the times that every update of a workflow moves."""
        workflow.update_time = self.now()
        if workflow.status.terminal:
            workflow.end_time = workflow.update_time
        self.workflows.touch(workflow.workflow_id)

    def remove_task(self, row: TaskRow) -> None:
        """Forget an attempt: reading it is a 404 from now on."""
        self.queue.remove(row.task_id)
        self.timers.pop(row.task_id, None)
        self.tasks.pop(row.task_id, None)
        tasks = self.workflows[row.workflow_id].tasks
        tasks[:] = [other for other in tasks if other.task_id != row.task_id]
        self.workflows.touch(row.workflow_id)
        self.record(HistoryEvent.REMOVED, row)

    def _limited(self, row: TaskRow, payload: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
        """Return a payload as it is stored, and the path of one that is kept elsewhere. Too large a payload fails its
        row."""
        size = size_of(payload)
        if size > MAX_BYTES:
            row.status = Status.FAILED_WITH_TERMINAL_ERROR
            limit = f"is greater than the permissible limit: {MAX_BYTES} bytes"
            row.reason = f"The payload size: {size} of task: {row.task_id} in workflow: {row.workflow_id}  {limit}"
            return {}, None
        return payload, f"{self.new_id()}.json" if size > EXTERNAL_BYTES else None


ACTIVE_MS = 10_000
"""The time after a poll in which a domain counts as served (`docs/dev/servers/conductor.md`, "Queue semantics")."""

NO_DOMAIN = "NO_DOMAIN"


def domain_of(state: State, workflow: WorkflowRow, row: TaskRow) -> str | None:
    """Return the domain of a fresh attempt: the entry of its own type, else that of all types."""
    domains = workflow.task_to_domain
    domain = row.domain
    if (domains.get("*") or "").strip():
        domain = _active(state, row.task_type, domains["*"].split(","))
    if row.task_type in domains:
        domain = _active(state, row.task_type, domains[row.task_type].split(","))
    return domain


def _active(state: State, task_type: str, domains: list[str]) -> str | None:
    """Return the first domain that was recently polled, or the last one."""
    for domain in (domain.strip() for domain in domains if domain.upper() != NO_DOMAIN):
        poll = state.last_polls.get((task_type, domain))
        if poll is not None and state.now() - poll.time < ACTIVE_MS:
            return domain
    last = domains[-1].strip()
    return None if last.upper() == NO_DOMAIN else last
