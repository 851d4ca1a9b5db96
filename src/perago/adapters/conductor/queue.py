"""`ConductorQueue`: the task queue of a real Conductor server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from perago.adapters.conductor.session import NO_SUCH_URL, SERVICE, ConductorClient, json_of
from perago.adapters.http import CallPolicy
from perago.adapters.http_answers import AS_EXPECTED, reading, typed, unreadable
from perago.conductor_json import delivery_from, known_by_its_retry, step_type, workflow_from
from perago.ports import (
    ENDED_WORKFLOWS,
    OPEN_STATUSES,
    POLL_MARGIN,
    Delivery,
    Identity,
    NotFound,
    Refused,
    Report,
    ServiceError,
    WorkflowEnd,
    WorkflowRow,
    WorkflowSpan,
    trace_of,
    workflow_span,
)
from perago.retry import UNTIL_ITS_RETRY_ENDS
from perago.settings import ConductorSettings

J = TypeVar("J")
_OF_WORKERS = ("SIMPLE", "DYNAMIC", "SUB_WORKFLOW")
_MOST_NESTED = 10
"""Workflows above or below each other that are read."""
_NO_HEARTBEAT = "responsetimeout"
"""Begins the reason of an attempt that its response timeout ended, in lower case."""


def _last_row(workflow: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the row of the attempt or sub-workflow that ended last; None: no row has ended. Equal times are ordered by
    ids, so that all workers find the same one. One that its response timeout ended comes last, because its worker is
    probably dead."""

    def order(row: Mapping[str, Any]) -> tuple[bool, int, str]:
        has_timed_out = str(row.get("reasonForIncompletion") or "").lower().startswith(_NO_HEARTBEAT)
        return not has_timed_out, int(row.get("endTime") or 0), str(row["taskId"])

    rows = [
        row
        for row in workflow["tasks"]
        if row.get("status") not in OPEN_STATUSES
        and (kind := step_type(row)) in _OF_WORKERS
        and row.get("subWorkflowId" if kind == "SUB_WORKFLOW" else "pollCount")
    ]
    return max(rows, key=order, default=None)


def _end_from(workflow: Mapping[str, Any], run_before: int, last: Identity | None) -> WorkflowEnd:
    """Return the end of a workflow. A later run begins with the first row that was scheduled in it."""
    began = int(workflow.get("startTime") or 0)
    if run_before:
        scheduled = [int(task.get("scheduledTime") or 0) for task in workflow["tasks"]]
        began = min((at for at in scheduled if at > run_before), default=run_before)
    return WorkflowEnd(
        name=str(workflow.get("workflowName") or ""),
        status=str(workflow["status"]),
        reason=str(workflow.get("reasonForIncompletion") or ""),
        began=began,
        ended=int(workflow.get("endTime") or 0),
        last=last,
    )


def to_json(operation: str, payload: object) -> str:
    """Return the exact text to send.

    Raises:
        Refused: the payload is not JSON; Conductor would answer 500.
    """
    try:
        return json.dumps(payload, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        detail = f"the payload cannot be written as JSON ({type(error).__name__})"
        raise Refused(SERVICE, operation, detail) from error


def _update(delivery: Delivery, status: str) -> dict[str, Any]:
    # A workflow id that does not belong to the task completes it and leaves its workflow undecided
    # (`docs/dev/servers/conductor.md`, "Attempt state machine"), so both always come from one delivery.
    return {"taskId": delivery.task_id, "workflowInstanceId": delivery.workflow_id, "status": status}


_SIZES = ("tasks", "queue", "sizes")
_TASK_DEFINITIONS = ("metadata", "taskdefs")

LONGEST_WAIT = 5.0
"""Seconds; Conductor refuses longer polls."""
_NAMES_AT_ONCE = 50
"""Number of queue names in one request. It keeps the URL within 8 KiB, the limit of servers."""
_TRACE_LIMIT = 2.0
"""Additional seconds of a poll for the traces of its deliveries."""


class ConductorQueue(ConductorClient):
    """A `TaskQueue` on Conductor. Safe to use from several threads; opens no connection before the first call.

    Args:
        settings: where the server is.
        policy: time limits and repetitions, for tests.
        traced: whether deliveries have their `trace`, which is read from the inputs of their workflows.
    """

    policy: ClassVar[CallPolicy] = CallPolicy(answer=30.0, tries=3)

    def __init__(self, settings: ConductorSettings, *, policy: CallPolicy | None = None, traced: bool = False) -> None:
        super().__init__(settings, policy=policy)
        self._traced = traced

    def ping(self) -> None:
        """Check whether a Conductor answers and accepts the credentials, without changing anything.

        Raises:
            Unavailable: no answer, or the answer is not from a Conductor at this path.
            AccessDenied: the credentials are rejected.
        """
        try:
            answer = self.once("answer", "GET", *_SIZES, query={"taskType": "perago.ping"}, write=False)
        except (NotFound, Refused) as error:
            raise unreadable(SERVICE, AS_EXPECTED, "Conductor's", error.detail) from error
        json_of(AS_EXPECTED, answer, dict, "Conductor's")

    def poll(self, task_name: str, worker_id: str, *, count: int, wait_seconds: float) -> Sequence[Delivery]:
        """Take up to `count` deliveries. The call is never abandoned, because an abandoned poll loses its tasks until
        their response timeout (`docs/dev/servers/conductor.md`, "Attempt state machine"), so the client's limit is much
        longer than the server's.

        Args:
            task_name: the task type.
            worker_id: the id of the polling worker, which Conductor records.
            count: how many at most.
            wait_seconds: how long Conductor waits for the first one, at most `LONGEST_WAIT`.

        Raises:
            Unclear: the answer was lost, perhaps with deliveries in it.
        """
        wait = min(max(wait_seconds, 0.0), LONGEST_WAIT)
        operation = f"poll for {task_name}"
        answer = self.once(
            operation,
            "GET",
            *("tasks", "poll", "batch", task_name),
            query={"count": count, "timeout": int(wait * 1000), "workerid": worker_id},
            answer_within=wait + POLL_MARGIN,
            expected=wait,
        )
        polled = json_of(operation, answer, list, "a list of tasks", write=True)
        with reading(SERVICE, operation, "a list of tasks", write=True):
            deliveries = tuple(delivery_from(typed(task, dict, "an entry")) for task in polled)
        known = tuple(delivery for delivery in map(self._known_by_its_retry, deliveries) if delivery is not None)
        return self._with_traces(known) if self._traced else known

    def queue_depths(self, task_names: Sequence[str]) -> Mapping[str, int]:
        """Return the number of attempts in each queue. The request is not repeated, because the caller asks again
        anyway.

        Raises:
            ServiceError: not all depths are known.
        """
        operation = "read the depths of queues"
        depths: dict[str, int] = {}
        for start in range(0, len(task_names), _NAMES_AT_ONCE):
            some = list(task_names[start : start + _NAMES_AT_ONCE])
            answer = self.once(operation, "GET", *_SIZES, query={"taskType": some}, write=False)
            sizes = json_of(operation, answer, dict, "a number for each queue")
            with reading(SERVICE, operation, "a number for each queue"):
                depths |= {name: typed(sizes[name], int, name) for name in some}
        return depths

    def is_current(self, delivery: Delivery) -> bool:
        """Whether Conductor still waits for this delivery. A task that no longer exists is not current, because its
        workflow was removed. A 404 of a proxy proves nothing."""
        task = unless_missing(delivery.task_id, self.task) or {}
        identity = (task.get("taskId"), task.get("pollCount"), task.get("startTime"))
        return task.get("status") == "IN_PROGRESS" and identity == delivery.identity

    def read_workflow(self, delivery: Delivery, workflow_id: str) -> WorkflowRow | None:  # noqa: ARG002 - the port's
        """Return Conductor's row of any workflow; None: Conductor itself says that it does not exist."""
        workflow = unless_missing(workflow_id, self.workflow)
        with reading(SERVICE, f"read workflow {workflow_id}", "a workflow with its tasks"):
            return None if workflow is None else workflow_from(workflow)

    def extend_lease(self, delivery: Delivery) -> None:
        """Move the response timeout; repeated if the answer is lost, which is harmless."""
        operation = f"extend the lease of task {delivery.task_id}"
        body = to_json(operation, {**_update(delivery, "IN_PROGRESS"), "extendLease": True})
        self.read(operation, "POST", "tasks", body=body)

    def hand_back(self, delivery: Delivery, seconds: int = 0) -> None:
        """Give an attempt back. Sent once: a repetition could take it from a later worker."""
        update = {**_update(delivery, "IN_PROGRESS"), "callbackAfterSeconds": seconds}
        self._update(f"hand back task {delivery.task_id}", update)

    def report(self, delivery: Delivery, report: Report, worker_id: str) -> None:
        """Send the final status once, with update v1, because v2 would also poll a task."""
        update = {**_update(delivery, report.status.value), "workerId": worker_id, "outputData": dict(report.output)}
        if report.reason is not None:
            update["reasonForIncompletion"] = report.reason
        self._update(f"report {report.status.value} for task {delivery.task_id}", update)

    def add_log(self, task_id: str, text: str) -> None:
        """Append one entry to the task's log. An empty text is left out, because Conductor refuses it."""
        if text:
            sendable = text.encode(errors="replace").decode()  # undecodable bytes become question marks
            self.once(f"log to task {task_id}", "POST", "tasks", task_id, "log", body=sendable)

    def get_task_definition(self, name: str) -> Mapping[str, Any] | None:
        """Return the registered TaskDef as JSON, or None."""
        operation = f"read task definition {name}"
        try:
            return self.get_json(operation, dict, "a task definition", *_TASK_DEFINITIONS, name)
        except NotFound as error:
            if NO_SUCH_URL in error.detail:
                raise
            return None

    def register_task_definitions(self, definitions: Sequence[Mapping[str, Any]]) -> None:
        """Create or replace TaskDefs, all or none. It is an upsert, so it is repeated if the answer is lost."""
        names = ", ".join(str(definition.get("name")) for definition in definitions)
        operation = f"register {names}"
        body = to_json(operation, [dict(definition) for definition in definitions])
        self.read(operation, "POST", *_TASK_DEFINITIONS, body=body)

    def _known_by_its_retry(self, delivery: Delivery) -> Delivery | None:
        """Return the delivery with the state of its retry in its workflow. Conductor's own mark is wrong in two cases.
        It stays on an attempt whose retry was removed by a rerun. It is removed from an attempt that begins again with
        its sub-workflow, which also increases the retry count.

        None: the attempt went back into the queue, because its retry has not ended or is unknown.
        """
        if not (delivery.retried or delivery.retry_count):
            return delivery
        try:
            with reading(SERVICE, f"read workflow {delivery.workflow_id}", "a workflow"):
                known = known_by_its_retry(self.workflow(delivery.workflow_id), delivery)
        except ServiceError:
            known = delivery if delivery.retried else None
        if known is None:
            with suppress(ServiceError):  # else it comes back after its response timeout, as from a poll that is lost
                self.hand_back(delivery, round(UNTIL_ITS_RETRY_ENDS.pause(delivery.poll_count - 1)))
        return known

    def _with_traces(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """Return the deliveries with their places in the traces of their workflows. What is not read within
        `_TRACE_LIMIT` of the poll is missing there."""
        known: dict[str, WorkflowSpan] = {}
        until = time.monotonic() + _TRACE_LIMIT

        def traced(delivery: Delivery) -> Delivery:
            workflow_id, before = delivery.workflow_id, delivery.retried_task_id
            if workflow_id not in known:
                known[workflow_id] = self._workflow_span(workflow_id, until)
            task = self._read_if_quick(until, "task", before) if before else {}
            polls, start = task.get("pollCount"), task.get("startTime")
            retry_of = (before, polls, start) if before and type(polls) is int and type(start) is int else None
            return replace(delivery, trace=trace_of(delivery.identity, known[workflow_id], retry_of))

        return [traced(delivery) for delivery in deliveries]

    def _workflow_span(self, workflow_id: str, until: float, depth: int = 0) -> WorkflowSpan:
        """Return the span of a running workflow, and of those that it is a sub-workflow of."""
        workflow = self._read_if_quick(until, "workflow", workflow_id)
        workflow_input, above = workflow.get("input"), workflow.get("parentWorkflowId")
        created, ended = (value if type(value := workflow.get(key)) is int else 0 for key in ("startTime", "endTime"))
        has_parent = isinstance(above, str) and above and depth < _MOST_NESTED
        return workflow_span(
            workflow_id,
            workflow_input.get("traceparent") if isinstance(workflow_input, dict) else None,
            created=created,
            run_before=ended if workflow.get("status") not in ENDED_WORKFLOWS else 0,
            parent=self._workflow_span(str(above), until, depth + 1) if has_parent else None,
        )

    def _read_if_quick(self, until: float, kind: str, name: str) -> Mapping[str, Any]:
        """Read a workflow, without its tasks, or a task; empty: it was not read in time."""
        operation, left = f"read {kind} {name}", until - time.monotonic()
        path, query = ("tasks", None) if kind == "task" else ("workflow", {"includeTasks": "false"})
        with suppress(ServiceError):
            if left > 0:
                answer = self.once(operation, "GET", path, name, query=query, write=False, answer_within=left)
                return json_of(operation, answer, dict, f"a {kind}")
        return {}

    def read_end(self, workflow_id: str, run_before: int) -> WorkflowEnd | None:
        """Return the end of the run of a workflow after `run_before`; None: it has not ended, or there is no answer in
        `_TRACE_LIMIT` seconds."""
        until = time.monotonic() + _TRACE_LIMIT
        if self._read_if_quick(until, "workflow", workflow_id).get("status") not in ENDED_WORKFLOWS:
            return None
        try:
            workflow = self.workflow(workflow_id)
            with reading(SERVICE, f"read workflow {workflow_id}", "a workflow"):
                return _end_from(workflow, run_before, self._last_delivery(workflow))
        except ServiceError:
            return None

    def _last_delivery(self, workflow: Mapping[str, Any]) -> Identity | None:
        """Return the delivery that ended last in a workflow, or in the sub-workflow that did."""
        for _ in range(_MOST_NESTED):
            row = _last_row(workflow)
            if row is None:
                break
            if row.get("taskType") != "SUB_WORKFLOW":
                return str(row["taskId"]), int(row["pollCount"]), int(row["startTime"])
            workflow = self.workflow(str(row["subWorkflowId"]))
        return None

    def _update(self, operation: str, update: Mapping[str, Any]) -> None:
        self.once(operation, "POST", "tasks", body=to_json(operation, update))


def unless_missing(name: str, read: Callable[[str], J]) -> J | None:
    """Read the JSON of the object with this id. None: Conductor itself says that it does not exist."""
    try:
        return read(name)
    except NotFound as error:
        if name in error.detail and NO_SUCH_URL not in error.detail:
            return None
        raise
