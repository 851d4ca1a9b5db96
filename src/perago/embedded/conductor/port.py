"""The model as the task queue that workers and the driver know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from perago.embedded.conductor import updates
from perago.embedded.conductor.branching import Loop
from perago.embedded.conductor.model import MAX_WAIT_SECONDS, ConductorModel
from perago.embedded.conductor.state import Status, TaskRow
from perago.embedded.conductor.system_tasks import SUB_WORKFLOW
from perago.embedded.conductor.views import queue_wait
from perago.embedded.conductor.wire import copied
from perago.ports import UNTIL_ITS_RETRY_ENDS, AttemptRow, Delivery, NotFound, Report, WorkflowRow, looped_names


class InMemoryConductor(ConductorModel):
    """A `perago.ports.TaskQueue` in memory, and everything else of `ConductorModel`.

    Faults are scripted by the names of the methods (`"poll"`, `"report"`, `"is_current"`, ...). A long poll lets go
    of the lock while it waits; on a `VirtualClock` it moves time.
    """

    def poll(self, task_name: str, worker_id: str, *, count: int, wait_seconds: float) -> Sequence[Delivery]:
        """Take up to `count` deliveries; a wait of more than 5 s is cut to 5 s."""
        wait = min(max(wait_seconds, 0.0), MAX_WAIT_SECONDS)
        with self._around("poll"):
            found = self._poll(task_name, worker_id, _delivery, count=count, wait_seconds=wait)
            return tuple(each for each in map(self._known_by_its_retry, found) if each is not None)

    def _known_by_its_retry(self, delivery: Delivery) -> Delivery | None:
        """The delivery with what is known of its retry; None: it went back, for the retry has not ended."""
        with self._locked() as state:
            tasks = state.workflows[delivery.workflow_id].tasks
            rows = [row for row in tasks if row.reference_name == delivery.reference_name]
            if not any(row.retried_task_id == delivery.task_id for row in rows):
                return replace(delivery, retried=False)
            if delivery.retried:
                return delivery
            if not rows[-1].status.terminal or rows[-1].status.unsuccessful:
                later = _result(delivery, status="IN_PROGRESS", callbackAfterSeconds=UNTIL_ITS_RETRY_ENDS)
                updates.update_task(state, later)
                return None
            return replace(delivery, retried=True, retry_output=copied(rows[-1].output))

    def queue_depths(self, task_names: Sequence[str]) -> Mapping[str, int]:
        """How many attempts each queue holds, delayed ones included."""
        with self._operation("queue_depths") as state:
            return {name: state.queue.size(name) for name in task_names}

    def is_current(self, delivery: Delivery) -> bool:
        """Whether the task is in progress with the identity of this delivery; a task that is gone is not."""
        with self._operation("is_current") as state:
            try:
                row = self._row(state, delivery.task_id)
            except NotFound:
                return False
            identity = (row.task_id, row.poll_count, row.start_time)
            return row.status is Status.IN_PROGRESS and identity == delivery.identity

    def read_attempt(self, delivery: Delivery, task_id: str) -> AttemptRow | None:  # noqa: ARG002 - the port's
        """What is known of any attempt; None for one that is gone."""
        with self._operation("read_attempt") as state:
            try:
                row = self._row(state, task_id)
            except NotFound:
                return None
            return AttemptRow(row.task_id, row.start_time, row.retried_task_id)

    def read_workflow(self, delivery: Delivery, workflow_id: str) -> WorkflowRow | None:  # noqa: ARG002 - the port's
        """What is known of any workflow; None for one that is gone."""
        with self._operation("read_workflow") as state:
            try:
                workflow = state.workflow("read workflow", workflow_id)
            except NotFound:
                return None
            rows = workflow.tasks
            retries = {row.retried_task_id for row in rows}
            replaced = {row.sub_workflow_id for row in rows if row.retried and row.task_id in retries}
            children = {row.sub_workflow_id for row in rows if not (row.retried and row.task_id in retries)}
            unnamed = [row for row in rows if row.kind == SUB_WORKFLOW and not row.sub_workflow_id]
            return WorkflowRow(
                workflow_id,
                workflow.create_time,
                workflow.parent_id,
                workflow.name,
                frozenset(filter(None, children)),
                frozenset(filter(None, replaced - children)),
                looped_names(
                    [*workflow.definition["tasks"], *(row.workflow_task for row in rows if row.kind == Loop.kind)]
                ),
                is_starting=any(not row.status.terminal for row in unnamed),
            )

    def extend_lease(self, delivery: Delivery) -> None:
        """Move the response time-out of the delivery that holds the attempt now."""
        with self._operation("extend_lease") as state:
            updates.update_task(state, _result(delivery, extendLease=True))

    def hand_back(self, delivery: Delivery, seconds: int = 0) -> None:
        """Give the attempt back for redelivery after `seconds` (`docs/servers/conductor.md` 9)."""
        with self._operation("hand_back") as state:
            updates.update_task(state, _result(delivery, status="IN_PROGRESS", callbackAfterSeconds=seconds))

    def report(self, delivery: Delivery, report: Report, worker_id: str) -> None:
        """Send the final status by update v1; an outdated one is ignored without a word."""
        with self._operation("report") as state:
            result = _result(
                delivery,
                status=report.status.value,
                outputData=report.output,
                reasonForIncompletion=report.reason,
                workerId=worker_id,
            )
            updates.update_task(state, result)

    def add_log(self, task_id: str, text: str) -> None:
        """Append one entry; an empty one is left out, as Conductor takes none."""
        if text:
            super().add_log(task_id, text)

    def close(self) -> None:
        """Nothing to give back."""


def _result(delivery: Delivery, **fields: Any) -> dict[str, Any]:
    return {"taskId": delivery.task_id, "workflowInstanceId": delivery.workflow_id, **fields}


def _delivery(row: TaskRow, now: int) -> Delivery:
    """The row as the delivery that a worker gets."""
    return Delivery(
        task_id=row.task_id,
        poll_count=row.poll_count,
        start_time=row.start_time,
        task_name=row.task_name,
        workflow_id=row.workflow_id,
        reference_name=row.reference_name,
        iteration=row.iteration,
        retry_count=row.retry_count,
        retried_task_id=row.retried_task_id,
        retried=row.retried,
        input=copied(row.input) if row.external_input is None else {},
        external_input=row.external_input is not None,
        response_timeout_seconds=row.definition["responseTimeoutSeconds"],
        timeout_seconds=row.definition["timeoutSeconds"],
        spent_seconds=(row.update_time - row.start_time) / 1000,
        waited_seconds=max(0, queue_wait(row, now)) / 1000,
    )
