"""Conductor's JSON and the port's values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from perago.adapters.conductor.errors import SERVICE
from perago.adapters.conductor.nesting import TooDeep
from perago.ports import AttemptRow, Delivery, Refused, Report, WorkflowRow, looped_names

_DONE = ("COMPLETED", "COMPLETED_WITH_ERRORS", "SKIPPED")
_UNKNOWN_LOOP: Mapping[str, Any] = {"type": "DO_WHILE", "loopOver": [{"type": "DYNAMIC"}]}
_DEFAULT_RESPONSE_TIMEOUT = 3600  # of a task type without a definition (`docs/servers/conductor.md` 1)


def delivery_from(task: Mapping[str, Any]) -> Delivery:
    """The delivery in a polled task. Null fields are left out on the wire.

    Raises:
        KeyError, TypeError, ValueError: this is not a task.
    """
    definition, given = task.get("taskDefinition") or {}, task.get("inputData") or {}
    is_too_deep = isinstance(given, TooDeep)
    return Delivery(
        task_id=str(task["taskId"]),
        poll_count=int(task["pollCount"]),
        start_time=int(task["startTime"]),
        task_name=str(task["taskDefName"]),
        workflow_id=str(task["workflowInstanceId"]),
        reference_name=str(task["referenceTaskName"]),
        iteration=int(task.get("iteration") or 0),
        retry_count=int(task.get("retryCount") or 0),
        retried_task_id=task.get("retriedTaskId"),
        retried=task.get("retried") is True,
        input={} if is_too_deep else given,
        input_is_too_deep=is_too_deep,
        external_input=bool(task.get("externalInputPayloadStoragePath")),
        response_timeout_seconds=float(task.get("responseTimeoutSeconds") or _DEFAULT_RESPONSE_TIMEOUT),
        timeout_seconds=float(definition.get("timeoutSeconds") or 0),
        spent_seconds=_spent(int(task["startTime"]), int(task.get("updateTime") or 0)),
        waited_seconds=max(0, int(task.get("queueWaitTime") or 0)) / 1000,
    )


def _spent(first_polled: int, polled: int) -> float:
    """Seconds from the first poll of an attempt to the poll that moved its `updateTime`. Conductor wrote both times, so
    the clock of this machine has no part in it."""
    return max(0, polled - first_polled) / 1000


def attempt_from(task: Mapping[str, Any]) -> AttemptRow:
    """What recovery needs to know of a task as read."""
    return AttemptRow(str(task.get("taskId", "")), int(task.get("startTime") or 0), task.get("retriedTaskId"))


def workflow_from(workflow: Mapping[str, Any]) -> WorkflowRow:
    """What recovery needs to know of a workflow as read, tasks included.

    Raises:
        LookupError, TypeError, AttributeError, ValueError: this is no workflow with tasks.
    """
    definition, tasks = workflow.get("workflowDefinition") or {}, workflow["tasks"]
    # The mark stays on an attempt whose retry a rerun has removed.
    retries = {task.get("retriedTaskId") for task in tasks}
    children, replaced = set[str](), set[str]()
    for task in tasks:
        if task.get("subWorkflowId"):
            is_replaced = task.get("retried") and task.get("taskId") in retries
            (replaced if is_replaced else children).add(str(task["subWorkflowId"]))
    unnamed = [task for task in tasks if task.get("taskType") == "SUB_WORKFLOW" and not task.get("subWorkflowId")]
    # A dynamic fork brings tasks that the definition does not have.
    loops = [task.get("workflowTask") or _UNKNOWN_LOOP for task in tasks if task.get("taskType") == "DO_WHILE"]
    return WorkflowRow(
        str(workflow["workflowId"]),
        int(workflow.get("startTime") or workflow.get("createTime") or 0),
        workflow.get("parentWorkflowId") or None,
        str(workflow.get("workflowName") or definition.get("name") or ""),
        frozenset(children),
        frozenset(replaced - children),
        looped_names([*definition.get("tasks", []), *loops]),
        is_starting=any(task.get("status") in ("SCHEDULED", "IN_PROGRESS") for task in unnamed),
    )


def known_by_its_retry(workflow: Mapping[str, Any], delivery: Delivery) -> Delivery | None:
    """The delivery with what a workflow as read says of its retry; None: the newest has to end first.

    Raises:
        LookupError, TypeError, AttributeError: this is no workflow with attempts.
    """
    rows = [task for task in workflow["tasks"] if task.get("referenceTaskName") == delivery.reference_name]
    if not any(task.get("retriedTaskId") == delivery.task_id for task in rows):
        return replace(delivery, retried=False)
    if delivery.retried:
        return delivery
    if rows[-1].get("status") not in _DONE:
        return None
    return replace(delivery, retried=True, retry_output=rows[-1].get("outputData") or {})


def is_same_delivery(task: Mapping[str, Any], delivery: Delivery) -> bool:
    """Whether a task as read is still in the hands of this delivery (docs/design/contract.md 1)."""
    identity = (task.get("taskId"), task.get("pollCount"), task.get("startTime"))
    return task.get("status") == "IN_PROGRESS" and identity == delivery.identity


def lease_extension(delivery: Delivery) -> dict[str, Any]:
    """The update that moves the response time-out and nothing else (`docs/servers/conductor.md` 3)."""
    return {**_update(delivery, "IN_PROGRESS"), "extendLease": True}


def hand_back(delivery: Delivery, seconds: int = 0) -> dict[str, Any]:
    """The update that puts a task back into the queue, at once or after `seconds` (`docs/servers/conductor.md` 9)."""
    return {**_update(delivery, "IN_PROGRESS"), "callbackAfterSeconds": seconds}


def final_result(delivery: Delivery, report: Report, worker_id: str) -> dict[str, Any]:
    """The update that ends a delivery."""
    result = {**_update(delivery, report.status.value), "workerId": worker_id, "outputData": dict(report.output)}
    if report.reason is not None:
        result["reasonForIncompletion"] = report.reason
    return result


def to_json(operation: str, payload: object) -> str:
    """The exact text to send.

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
    # (`docs/servers/conductor.md` 2), so both always come from one delivery.
    return {"taskId": delivery.task_id, "workflowInstanceId": delivery.workflow_id, "status": status}
