"""Read Conductor's JSON: as the values of the ports, for the adapter and the embedded server, and the parts of rows
that operators see."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from perago.ports import Delivery, TaskRow, WorkflowRow

_DONE = ("COMPLETED", "COMPLETED_WITH_ERRORS", "SKIPPED")
# of a task type without a definition (`docs/dev/servers/conductor.md`, "REST surface")
_DEFAULT_RESPONSE_TIMEOUT = 3600


class TooDeep(str):
    """The placeholder for a value that is nested too deeply to be read."""

    __slots__ = ()


def mapping(part: Any) -> Mapping[str, Any]:
    """Return a part of an answer that should be an object; an empty one if it is not."""
    return part if isinstance(part, Mapping) else {}


def rows_of(workflow: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Return the rows of a workflow as Conductor shows it; none if it was removed, or has no list of rows."""
    rows = mapping(workflow).get("tasks")
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def step_type(row: Mapping[str, Any]) -> str:
    """Return the type of a row's step in the definition, such as SIMPLE for one that workers do."""
    return str(mapping(row.get("workflowTask")).get("type") or "SIMPLE")


def published_commit(row: Mapping[str, Any]) -> str | None:
    """Return the commit of the workspace in the output of a row; None if it has none."""
    ref = mapping(mapping(row.get("outputData")).get("workspace")).get("ref")
    return ref if isinstance(ref, str) else None


def delivery_from(task: Mapping[str, Any]) -> Delivery:
    """Return the delivery in a polled task. Null fields are left out on the wire.

    Raises:
        KeyError, TypeError, ValueError: this is not a task.
    """
    definition, inputs = task.get("taskDefinition") or {}, task.get("inputData") or {}
    is_too_deep = isinstance(inputs, TooDeep)
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
        input={} if is_too_deep else {**inputs},
        input_is_too_deep=is_too_deep,
        external_input=bool(task.get("externalInputPayloadStoragePath")),
        response_timeout_seconds=float(task.get("responseTimeoutSeconds") or _DEFAULT_RESPONSE_TIMEOUT),
        timeout_seconds=float(definition.get("timeoutSeconds") or 0),
        # Conductor wrote both times, so the clock of this machine has no part in it.
        spent_seconds=max(0, int(task.get("updateTime") or 0) - int(task["startTime"])) / 1000,
        waited_seconds=max(0, int(task.get("queueWaitTime") or 0)) / 1000,
        trace=None,
        timeout_policy=str(definition.get("timeoutPolicy") or "TIME_OUT_WF"),
    )


_COMMIT_ID = re.compile(r"[0-9a-f]{64}")
_OF_WORKERS = ("SIMPLE", "DYNAMIC")


def workflow_from(workflow: Mapping[str, Any]) -> WorkflowRow:
    """Return a workflow and its rows. `workflow` must include its tasks.

    Raises:
        LookupError, TypeError, AttributeError, ValueError: this is not a workflow with tasks.
    """
    tasks = workflow["tasks"]
    loops = (task.get("workflowTask") or {} for task in tasks if task.get("taskType") == "DO_WHILE")
    return WorkflowRow(
        str(workflow["workflowId"]),
        workflow.get("parentWorkflowId") or None,
        tuple(_row_from(task) for task in sorted(tasks, key=lambda task: int(task.get("seq") or 0))),
        any("keepLastN" in (loop.get("inputParameters") or {}) for loop in loops),
    )


def _row_from(task: Mapping[str, Any]) -> TaskRow:
    is_sub_workflow = task.get("taskType") == "SUB_WORKFLOW"
    return TaskRow(
        task_id=str(task["taskId"]),
        reference_name=str(task.get("referenceTaskName") or ""),
        status=str(task.get("status") or ""),
        poll_count=int(task.get("pollCount") or 0),
        start_time=int(task.get("startTime") or 0),
        retried_task_id=str(task["retriedTaskId"]) if task.get("retriedTaskId") else None,
        is_operator=not is_sub_workflow and step_type(task) not in _OF_WORKERS,
        is_sub_workflow=is_sub_workflow,
        sub_workflow_id=str(task["subWorkflowId"]) if task.get("subWorkflowId") else None,
        is_optional=mapping(task.get("workflowTask")).get("optional") is True,
        input_commits=frozenset(commit_ids(task.get("inputData"))),
        published_commit=published_commit(task),
    )


def inner_steps(step: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the lists of steps inside a step of a definition: its cases, its branches and the body of its loop."""
    cases = (step.get("decisionCases") or {}).values()
    return [*cases, step.get("defaultCase") or [], *(step.get("forkTasks") or ()), step.get("loopOver") or []]


def every_step(steps: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield steps of a definition, each before those inside it, without those of sub-workflows."""
    for step in steps:
        yield step
        for branch in inner_steps(step):
            yield from every_step(branch)


def commit_ids(payload: Any) -> Iterator[str]:
    """Yield every commit id in a payload, at any depth."""
    pending = [payload]
    while pending:
        part = pending.pop()
        if isinstance(part, Mapping):
            pending += part.values()
        elif isinstance(part, list | tuple):
            pending += part
        elif isinstance(part, str) and _COMMIT_ID.fullmatch(part):
            yield str(part)


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
