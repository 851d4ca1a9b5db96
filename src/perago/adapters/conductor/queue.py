"""`ConductorQueue`: the task queue of a real Conductor server."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from perago.adapters.conductor import wire_format
from perago.adapters.conductor.errors import NO_SUCH_URL, unreadable
from perago.adapters.conductor.session import Session, json_of
from perago.adapters.http import CallPolicy
from perago.ports import (
    UNTIL_ITS_RETRY_ENDS,
    AttemptRow,
    Delivery,
    NotFound,
    Refused,
    Report,
    ServiceError,
    WorkflowRow,
    trace_of,
)
from perago.settings import ConductorSettings

LONGEST_WAIT = 5.0
"""Seconds; Conductor refuses longer polls."""
_POLL_MARGIN = 30.0
_NAMES_AT_ONCE = 50
"""Names of queues in one request: its address stays within 8 KiB, more than which servers refuse."""
_POLICY = CallPolicy(answer=30.0, tries=3)
_TRACE_LIMIT = 2.0
"""Seconds that a poll may take longer for the traces of what it brings."""


class ConductorQueue:
    """A `TaskQueue` on conductor-python. Safe to use from several threads; opens no connection before the first call.

    Args:
        settings: where the server is (docs/design/contract.md 6).
        policy: time limits and repetitions, for tests.
        traced: deliveries have their `trace`, for which the inputs of their workflows are read.
    """

    def __init__(self, settings: ConductorSettings, *, policy: CallPolicy = _POLICY, traced: bool = False) -> None:
        self._traced = traced
        self._session = Session(settings, policy)

    def ping(self) -> None:
        """Find out whether a Conductor answers and lets us in, without changing anything.

        Raises:
            Unavailable: no answer, or an answer of something that is not a Conductor, or of one at another path.
            AccessDenied: the credentials are not accepted.
        """
        operation = "answer"
        try:
            answer = self._session.once(operation, self._session.tasks.size, task_type=["perago.ping"], write=False)
        except (NotFound, Refused) as error:
            raise unreadable(operation, f"Conductor's ({error.detail})", write=False) from error
        json_of(operation, answer, dict, "Conductor's")

    def poll(self, task_name: str, worker_id: str, *, count: int, wait_seconds: float) -> Sequence[Delivery]:
        """Take up to `count` deliveries. Never given up in flight: an abandoned poll loses its tasks until their
        response time-out (`docs/servers/conductor.md` 2), so the client's limit lies well beyond the server's.

        Args:
            task_name: the task type.
            worker_id: polls; Conductor notes it.
            count: how many at most.
            wait_seconds: how long Conductor waits for the first one, at most `LONGEST_WAIT`.

        Raises:
            Unclear: the answer was lost, perhaps with deliveries in it.
        """
        wait = min(max(wait_seconds, 0.0), LONGEST_WAIT)
        operation = f"poll for {task_name}"
        answer = self._session.once(
            operation,
            self._session.tasks.batch_poll,
            task_name,
            count=count,
            timeout=int(wait * 1000),
            workerid=worker_id,
            answer_within=wait + _POLL_MARGIN,
        )
        polled = json_of(operation, answer, list, "a list of tasks", write=True)
        try:
            found = tuple(wire_format.delivery_from(task) for task in polled)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise unreadable(operation, "a list of tasks", write=True) from error
        known = tuple(each for each in map(self._known_by_its_retry, found) if each is not None)
        return self._with_traces(known) if self._traced else known

    def queue_depths(self, task_names: Sequence[str]) -> Mapping[str, int]:
        """How many attempts each queue holds. Asked for once, for the caller asks again anyway.

        Raises:
            ServiceError: not all of them are known.
        """
        operation = "read the depths of queues"
        depths: dict[str, int] = {}
        for start in range(0, len(task_names), _NAMES_AT_ONCE):
            some = list(task_names[start : start + _NAMES_AT_ONCE])
            answer = self._session.once(operation, self._session.tasks.size, task_type=some, write=False)
            found = json_of(operation, answer, dict, "a number for each queue")
            if not all(type(found.get(name)) is int for name in some):
                raise unreadable(operation, "a number for each queue", write=False)
            depths |= {name: found[name] for name in some}
        return depths

    def is_current(self, delivery: Delivery) -> bool:
        """Whether Conductor still waits for this delivery. A task that is gone is not current: its workflow was
        removed. Only Conductor's own word counts for that, not a proxy's 404."""
        task = self._read_task(delivery.task_id)
        return task is not None and wire_format.is_same_delivery(task, delivery)

    def read_attempt(self, delivery: Delivery, task_id: str) -> AttemptRow | None:  # noqa: ARG002 - the port's
        """The row of any attempt; None: Conductor itself says that there is none."""
        task = self._read_task(task_id)
        return None if task is None else wire_format.attempt_from(task)

    def read_workflow(self, delivery: Delivery, workflow_id: str) -> WorkflowRow | None:  # noqa: ARG002 - the port's
        """What Conductor knows of any workflow; None: Conductor itself says that there is none."""
        operation = f"read workflow {workflow_id}"
        read = self._session.workflows.get_execution_status
        try:
            answer = self._session.read(operation, read, workflow_id, include_tasks="true")
        except NotFound as error:
            if workflow_id in error.detail and NO_SUCH_URL not in error.detail:
                return None
            raise
        try:
            return wire_format.workflow_from(json_of(operation, answer, dict, "a workflow"))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise unreadable(operation, "a workflow with its tasks", write=False) from error

    def extend_lease(self, delivery: Delivery) -> None:
        """Move the response time-out; repeated if the answer is lost, which is harmless."""
        operation = f"extend the lease of task {delivery.task_id}"
        body = wire_format.to_json(operation, wire_format.lease_extension(delivery))
        self._session.read(operation, self._session.tasks.update_task, body)

    def hand_back(self, delivery: Delivery, seconds: int = 0) -> None:
        """Give an attempt back. Sent once: a repetition could take it from a later worker."""
        operation = f"hand back task {delivery.task_id}"
        self._update(operation, wire_format.hand_back(delivery, seconds))

    def report(self, delivery: Delivery, report: Report, worker_id: str) -> None:
        """Send the final status once, by update v1: v2 would hand out a further task (docs/design/contract.md 7)."""
        operation = f"report {report.status.value} for task {delivery.task_id}"
        self._update(operation, wire_format.final_result(delivery, report, worker_id))

    def add_log(self, task_id: str, text: str) -> None:
        """Append one entry to the task's log; an empty text is left out, Conductor takes none."""
        if text:
            self._session.once(f"log to task {task_id}", self._session.tasks.log, _sendable(text), task_id)

    def get_task_definition(self, name: str) -> Mapping[str, Any] | None:
        """The registered TaskDef as JSON, or None."""
        operation = f"read task definition {name}"
        try:
            answer = self._session.read(operation, self._session.metadata.get_task_def, name)
        except NotFound as error:
            if NO_SUCH_URL in error.detail:
                raise
            return None
        definition: dict[str, Any] = json_of(operation, answer, dict, "a task definition")
        return definition

    def register_task_definitions(self, definitions: Sequence[Mapping[str, Any]]) -> None:
        """Create or replace TaskDefs, all or none. An upsert, so it is repeated if the answer is lost."""
        names = ", ".join(str(definition.get("name")) for definition in definitions)
        operation = f"register {names}"
        body = wire_format.to_json(operation, [dict(definition) for definition in definitions])
        self._session.read(operation, self._session.metadata.register_task_def, body)

    def close(self) -> None:
        """Give back the connections."""
        self._session.close()

    def _read_task(self, task_id: str) -> Mapping[str, Any] | None:
        operation = f"read task {task_id}"
        try:
            answer = self._session.read(operation, self._session.tasks.get_task, task_id)
        except NotFound as error:
            if task_id in error.detail and NO_SUCH_URL not in error.detail:
                return None
            raise
        task: dict[str, Any] = json_of(operation, answer, dict, "a task")
        return task

    def _known_by_its_retry(self, delivery: Delivery) -> Delivery | None:
        """The delivery with what its workflow knows of a retry: the mark stays on an attempt whose retry a rerun has
        removed, and is taken off one that is begun again beside a sub-workflow, which adds one to its retry count.

        None: it went back into the queue, since its retry has not ended, or Conductor did not tell. A marked attempt
        does nothing then, and nothing is lost.
        """
        if not (delivery.retried or delivery.retry_count):
            return delivery
        operation = f"look for the retry of task {delivery.task_id}"
        read = self._session.workflows.get_execution_status
        try:
            answer = self._session.read(operation, read, delivery.workflow_id, include_tasks="true")
            known = wire_format.known_by_its_retry(json_of(operation, answer, dict, "a workflow"), delivery)
        except (ServiceError, LookupError, TypeError, AttributeError):
            known = delivery if delivery.retried else None
        if known is None:
            with suppress(ServiceError):  # else it comes back after its response time-out, as from a poll that is lost
                self._update(operation, wire_format.hand_back(delivery, UNTIL_ITS_RETRY_ENDS))
        return known

    def _with_traces(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
        """The deliveries with their places in the traces that their workflows were started in. Work does not wait
        long for that: a workflow that is not read within `_TRACE_LIMIT` of the poll has a trace of its own."""
        given: dict[str, object] = {}
        until = time.monotonic() + _TRACE_LIMIT
        for workflow_id in dict.fromkeys(delivery.workflow_id for delivery in deliveries):
            if (left := until - time.monotonic()) > 0:
                with suppress(ServiceError, AttributeError):
                    given[workflow_id] = self._read_input(workflow_id, left).get("traceparent")
        return [
            replace(each, trace=trace_of(each.workflow_id, each.identity, given.get(each.workflow_id)))
            for each in deliveries
        ]

    def _read_input(self, workflow_id: str, within: float) -> Any:
        operation = f"read the input of workflow {workflow_id}"
        read = self._session.workflows.get_execution_status
        answer = self._session.once(
            operation, read, workflow_id, include_tasks="false", write=False, answer_within=within
        )
        return json_of(operation, answer, dict, "a workflow").get("input")

    def _update(self, operation: str, update: Mapping[str, Any]) -> None:
        self._session.once(operation, self._session.tasks.update_task, wire_format.to_json(operation, update))


def _sendable(text: str) -> str:
    """Text that UTF-8 can carry: undecodable bytes of a file name or of output become question marks."""
    return text.encode(errors="replace").decode()
