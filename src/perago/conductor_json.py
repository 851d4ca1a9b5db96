"""Conductor's JSON as the values of the ports, for the adapter and for the embedded server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from perago.ports import Delivery, WorkflowRow, looped_names

_DONE = ("COMPLETED", "COMPLETED_WITH_ERRORS", "SKIPPED")
_UNKNOWN_LOOP: Mapping[str, Any] = {"type": "DO_WHILE", "loopOver": [{"type": "DYNAMIC"}]}
# of a task type without a definition (`docs/dev/servers/conductor.md`, "REST surface")
_DEFAULT_RESPONSE_TIMEOUT = 3600


class TooDeep(str):
    """The placeholder for a value that is nested too deeply to be read."""

    __slots__ = ()


def delivery_from(task: Mapping[str, Any]) -> Delivery:
    """Return the delivery in a polled task. Null fields are left out on the wire.

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
        workflow_name=str(task.get("workflowType") or ""),
        reference_name=str(task["referenceTaskName"]),
        iteration=int(task.get("iteration") or 0),
        retry_count=int(task.get("retryCount") or 0),
        retried_task_id=str(task["retriedTaskId"]) if task.get("retriedTaskId") else None,
        retried=task.get("retried") is True,
        retry_output=None,
        input={} if is_too_deep else {**given},
        input_is_too_deep=is_too_deep,
        external_input=bool(task.get("externalInputPayloadStoragePath")),
        response_timeout_seconds=float(task.get("responseTimeoutSeconds") or _DEFAULT_RESPONSE_TIMEOUT),
        timeout_seconds=float(definition.get("timeoutSeconds") or 0),
        # Conductor wrote both times, so the clock of this machine has no part in it.
        spent_seconds=max(0, int(task.get("updateTime") or 0) - int(task["startTime"])) / 1000,
        waited_seconds=max(0, int(task.get("queueWaitTime") or 0)) / 1000,
        trace=None,
    )


def workflow_from(workflow: Mapping[str, Any]) -> WorkflowRow:
    """Return the row of a workflow for recovery. `workflow` must include its tasks.

    Raises:
        LookupError, TypeError, AttributeError, ValueError: this is not a workflow with tasks.
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
    """Return the delivery with the state of its retry in a workflow; None means that the newest retry must end first.

    Raises:
        LookupError, TypeError, AttributeError: this is not a workflow with attempts.
    """
    rows = [task for task in workflow["tasks"] if task.get("referenceTaskName") == delivery.reference_name]
    if not any(task.get("retriedTaskId") == delivery.task_id for task in rows):
        return replace(delivery, retried=False)
    if delivery.retried:
        return delivery
    if rows[-1].get("status") not in _DONE:
        return None
    return replace(delivery, retried=True, retry_output=rows[-1].get("outputData") or {})
