"""One attempt as Conductor has it, as facts that JSON can hold. Params and results are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from perago.taskdef.refs import commits_of

Facts = dict[str, Any]
_LARGEST = 2**53


class Records(Protocol):
    """What is asked of Conductor. Every method may raise any `ServiceError`."""

    def task(self, task_id: str) -> Mapping[str, Any]:
        """One attempt as JSON."""
        ...

    def workflow(self, workflow_id: str) -> Mapping[str, Any]:
        """A workflow with its attempts as JSON."""
        ...

    def log(self, task_id: str) -> Sequence[str]:
        """The entries of an attempt's log."""
        ...


def task_facts(row: Mapping[str, Any]) -> Facts:
    """What one attempt is and how it goes. Times are milliseconds since the epoch, 0 for not yet."""
    definition = _mapping(row.get("taskDefinition"))
    return {
        "task_id": _text(row, "taskId"),
        "task_name": _text(row, "taskDefName"),
        "reference_name": _text(row, "referenceTaskName"),
        "status": _text(row, "status"),
        "reason": row.get("reasonForIncompletion") or None,
        "retry_count": _number(row, "retryCount"),
        "retries_allowed": _number(definition, "retryCount") if definition else None,
        "retried_task_id": row.get("retriedTaskId") or None,
        "poll_count": _number(row, "pollCount"),
        "iteration": _number(row, "iteration"),
        "worker_id": row.get("workerId") or None,
        "scheduled": _number(row, "scheduledTime"),
        "started": _number(row, "startTime"),
        "updated": _number(row, "updateTime"),
        "ended": _number(row, "endTime"),
        "response_timeout_seconds": _number(row, "responseTimeoutSeconds"),
        "domain": row.get("domain") or None,
        "workflow_id": _text(row, "workflowInstanceId"),
        "input": input_facts(row),
        "output_ref": _output_ref(row),
    }


def input_facts(row: Mapping[str, Any]) -> Facts | None:
    """The workspace of the input, and the commits that it names; None for a task without one."""
    block = _mapping(row.get("inputData")).get("workspace")
    if block is None:
        return None
    block, problems = _mapping(block), list[str]()
    repository, branch = block.get("repository"), block.get("branch")
    if not isinstance(repository, str) or not isinstance(branch, str):
        return {"repository": None, "branch": None, "refs": [], "problems": ["names no repository and branch"]}
    refs = commits_of(block.get("ref"), repository, problems, pointer="ref")
    return {"repository": repository, "branch": branch, "refs": list(refs), "problems": problems}


def workflow_facts(workflow: Mapping[str, Any], task: Facts) -> tuple[Facts, list[Facts]]:
    """The workflow of an attempt, and all attempts of its step, in order."""
    facts = {
        "workflow_id": _text(workflow, "workflowId"),
        "name": _text(workflow, "workflowName") or _text(_mapping(workflow.get("workflowDefinition")), "name"),
        "status": _text(workflow, "status"),
        "reason": workflow.get("reasonForIncompletion") or None,
        "started": _number(workflow, "startTime") or _number(workflow, "createTime"),
        "ended": _number(workflow, "endTime"),
    }
    rows = [row for row in attempts_in(workflow) if row.get("referenceTaskName") == task["reference_name"]]
    return facts, [
        {
            "task_id": _text(row, "taskId"),
            "status": _text(row, "status"),
            "retry_count": _number(row, "retryCount"),
            "started": _number(row, "startTime"),
            "ended": _number(row, "endTime"),
        }
        for row in rows
    ]


def attempts_in(workflow: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The attempts of a workflow as Conductor shows them."""
    rows = workflow.get("tasks")
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []


def _output_ref(row: Mapping[str, Any]) -> str | None:
    ref = _mapping(_mapping(row.get("outputData")).get("workspace")).get("ref")
    return ref if isinstance(ref, str) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(row: Mapping[str, Any], key: str) -> str:
    return str(row.get(key) or "")


def _number(row: Mapping[str, Any], key: str) -> int:
    """0 for what is no number, or one that no time and no count can be."""
    value = row.get(key)
    return value if isinstance(value, int) and 0 <= value < _LARGEST else 0
