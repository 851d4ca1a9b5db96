"""A workflow of several task types and operators on a server, and what its rows show, in brief."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .servers import Server, unique
from .stage import DEFINITIONS, Seen

TRIES = 80
"""Polls of 0.1 s until an attempt that the server schedules in the background is there."""

_CONSTANT = frozenset(
    (
        "workflowInstanceId",
        "workflowType",
        "workflowPriority",
        "callbackFromWorker",
        "rateLimitFrequencyInSeconds",
        "scheduledTime",
        "queueWaitTime",
        "workerId",
    )
)

_WORKFLOW = (
    "status",
    "reasonForIncompletion",
    "output",
    "variables",
    "failedReferenceTaskNames",
    "failedTaskNames",
    "parentWorkflowId",
    "parentWorkflowTaskId",
    "taskToDomain",
    "input",
    "endTime",
    "lastRetriedTime",
)


def step(name: str, reference: str, **fields: Any) -> dict[str, Any]:
    """A step for a worker."""
    given = {"inputParameters": {"x": "${workflow.input.x}"}, **fields}
    return {"name": name, "taskReferenceName": reference, "type": "SIMPLE", **given}


def operator(kind: str, reference: str, **fields: Any) -> dict[str, Any]:
    """A step of the server's own; its name is never that of a task definition."""
    return {"name": f"own {reference}", "taskReferenceName": reference, "type": kind, **fields}


def fork(*branches: Sequence[Mapping[str, Any]], join_on: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """A fork and its join, which waits for the last step of each branch."""
    names = [branch[-1]["taskReferenceName"] for branch in branches] if join_on is None else list(join_on)
    return [operator("FORK_JOIN", "f", forkTasks=branches), operator("JOIN", "j", joinOn=names)]


def loop(*body: Mapping[str, Any], condition: str = "$.l['iteration'] < 2", **fields: Any) -> dict[str, Any]:
    return operator("DO_WHILE", "l", loopCondition=condition, loopOver=body, **fields)


def sub(name: str, reference: str, **fields: Any) -> dict[str, Any]:
    given = {"inputParameters": {"x": "${workflow.input.x}"}, **fields}
    return operator("SUB_WORKFLOW", reference, subWorkflowParam={"name": name}, **given)


class Play:
    """What happens to workflows on a server, and what was seen of it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.seen: Seen = []

    def task(self, **definition: Any) -> str:
        """A task type: no retry, no delay, unless said otherwise."""
        name = unique("t")
        self.server.register({"name": name, "retryCount": 0, "retryDelaySeconds": 0, **definition})
        return name

    def define(self, *steps: Mapping[str, Any], **fields: Any) -> str:
        name = unique("w")
        answer = self.server.create({"name": name, "version": 1, "schemaVersion": 2, "tasks": steps, **fields})
        assert answer[0] == 200, answer
        return name

    def start(self, name: str, payload: Mapping[str, Any] | None = None, **options: Any) -> str:
        status, workflow_id = self.server.start(name, {"x": 1} if payload is None else payload, **options)
        assert status == 200, workflow_id
        return str(workflow_id)

    def run(self, *steps: Mapping[str, Any], **fields: Any) -> str:
        """Define a workflow and start it."""
        return self.start(self.define(*steps, **fields))

    def take(self, task: str) -> dict[str, Any]:
        """The next attempt, however long the server takes to schedule it."""
        for _ in range(TRIES):
            found = self.server.poll(task)
            if found:
                return found[0]
        raise AssertionError(f"nothing to do for {task}; seen: {self.seen}")

    def finish(self, task: str, output: Mapping[str, Any] | None = None, status: str = "COMPLETED") -> dict[str, Any]:
        """Take the next attempt and report; only which step it was is noted."""
        taken = self.take(task)
        self.update(taken, status, output)
        return taken

    def fail(self, task: str, status: str = "FAILED") -> dict[str, Any]:
        return self.finish(task, status=status)

    def update(self, taken: Mapping[str, Any], status: str, output: Mapping[str, Any] | None = None) -> None:
        ids = {"taskId": taken["taskId"], "workflowInstanceId": taken["workflowInstanceId"], "workerId": "w1"}
        reason = None if status == "COMPLETED" else "boo"
        result = {**ids, "status": status, "outputData": output or {}, "reasonForIncompletion": reason}
        answer = self.server.update(result)
        assert answer[0] == 200, answer
        self.seen.append((status, taken["referenceTaskName"], taken["inputData"]))

    def act(self, action: str, workflow_id: str, **options: Any) -> None:
        self.seen.append((action, self.server.act(action, workflow_id, **options)))

    def look(self, workflow_id: str) -> dict[str, Any]:
        """Note what a workflow shows when the server has come to rest."""
        status, workflow = self.server.settled(workflow_id)
        assert status == 200, workflow
        shown = {key: workflow[key] for key in _WORKFLOW if workflow.get(key)}
        self.seen.append((shown, [_brief(task) for task in workflow["tasks"]]))
        return dict(workflow)

    def row(self, workflow_id: str, reference: str) -> dict[str, Any]:
        """The last row of a step, when the server has come to rest."""
        _, workflow = self.server.settled(workflow_id)
        rows = [task for task in workflow["tasks"] if task["referenceTaskName"] == reference]
        return dict(rows[-1])

    def child(self, workflow_id: str, reference: str) -> str:
        """The id of the sub-workflow of a step."""
        return str(self.row(workflow_id, reference)["subWorkflowId"])


def _brief(task: Mapping[str, Any]) -> dict[str, Any]:
    """What is neither constant nor unset, nor luck: a JOIN is looked at as often as the server likes.

    If that happens while its workflow ends, the JOIN gives that as its reason.
    """
    luck = frozenset({"pollCount"}) if task["taskType"] == "JOIN" else frozenset()
    if str(task.get("reasonForIncompletion")).startswith("Workflow is in "):
        luck |= {"reasonForIncompletion"}
    left_out = _CONSTANT | DEFINITIONS | luck
    return {key: value for key, value in task.items() if key not in left_out and value not in (0, "", None, {}, [])}
