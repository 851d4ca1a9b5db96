"""Plain REST calls to Conductor, so that no code under test confirms itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import urllib3

from .waiting import wait_for

REPAIRED = 150.0
"""Seconds. Occasionally the server loses the queue entry of a task that runs again right after its end. Its sweeper
repairs that within two minutes, and logs "Going to repair the task"."""
OVER = ("COMPLETED", "FAILED", "TERMINATED", "TIMED_OUT")


class Conductor:
    """One server. `url` is the value of `CONDUCTOR_SERVER_URL`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = urllib3.PoolManager(maxsize=4, retries=False)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON of an answer, or its text if that is not JSON.

        Raises:
            AssertionError: the status is not 2xx.
        """
        content = None if body is None else json.dumps(body).encode()
        answer = self._http.request(
            method, self.url + path, body=content, headers={"Content-Type": "application/json"}, timeout=30
        )
        text = answer.data.decode()
        assert 200 <= answer.status < 300, f"{method} {path}: {answer.status} {text}"
        try:
            return json.loads(text)
        except ValueError:
            return text

    def close(self) -> None:
        """Close the connections."""
        self._http.clear()

    def define(self, name: str, steps: Sequence[Mapping[str, Any]]) -> None:
        """Create a workflow of `steps`."""
        self.call("PUT", "/metadata/workflow", [definition(name, steps)])

    def start(self, name: str, payload: Mapping[str, Any]) -> str:
        """Start a workflow, and return its id."""
        return str(self.call("POST", "/workflow", {"name": name, "version": 1, "input": payload}))

    def workflow(self, workflow_id: str) -> dict[str, Any]:
        """Return a workflow with its tasks."""
        execution: dict[str, Any] = self.call("GET", f"/workflow/{workflow_id}")
        return execution

    def tasks(self, workflow_id: str) -> list[dict[str, Any]]:
        """Return every attempt of a workflow, oldest first."""
        return list(self.workflow(workflow_id)["tasks"])

    def statuses(self, workflow_id: str) -> list[str]:
        """Return the status of every attempt, oldest first."""
        return [task["status"] for task in self.tasks(workflow_id)]

    def decide(self, workflow_id: str) -> None:
        """Let the server evaluate timeouts now. Without this call it can take a minute
        (`docs/dev/servers/conductor.md`, "Attempt state machine")."""
        self.call("PUT", f"/workflow/decide/{workflow_id}")

    def time_out(self, workflow_id: str) -> None:
        """Let the server evaluate timeouts until the first attempt has timed out, and not longer."""

        def has_timed_out() -> bool:
            self.decide(workflow_id)
            return self.statuses(workflow_id)[0] == "TIMED_OUT"

        wait_for(
            f"the timeout of workflow {workflow_id}",
            has_timed_out,
            context=lambda: described(self.workflow(workflow_id)),
        )

    def wait(self, workflow_id: str, *, driven: bool = False, limit: float = REPAIRED) -> dict[str, Any]:
        """Wait for the end of a workflow, and return it. `driven` evaluates its timeouts in the meantime."""

        def ended() -> dict[str, Any] | None:
            if driven and self.workflow(workflow_id)["status"] not in OVER:
                self.decide(workflow_id)
            execution = self.workflow(workflow_id)
            return execution if execution["status"] in OVER else None

        return wait_for(
            f"the end of workflow {workflow_id}",
            ended,
            limit=limit,
            context=lambda: described(self.workflow(workflow_id)),
        )

    def completed(self, workflow_id: str, *, driven: bool = False, limit: float = REPAIRED) -> dict[str, Any]:
        """Wait for a workflow, assert that it has completed, and return it."""
        execution = self.wait(workflow_id, driven=driven, limit=limit)
        assert execution["status"] == "COMPLETED", described(execution)
        return execution

    def output(self, workflow_id: str, **options: Any) -> dict[str, Any]:
        """Wait for a workflow to complete, and return the output of its last attempt."""
        output: dict[str, Any] = self.completed(workflow_id, **options)["tasks"][-1]["outputData"]
        return output

    def terminate(self, workflow_id: str) -> None:
        """Terminate a workflow. One that has completed, perhaps just now, does not change (409)."""
        try:
            self.call("DELETE", f"/workflow/{workflow_id}")
        except AssertionError:
            if self.workflow(workflow_id)["status"] != "COMPLETED":
                raise

    def rerun(self, workflow_id: str, task_id: str, **task_input: Any) -> None:
        """Run an ended workflow again from a task, with `task_input` if there is any."""
        body = {"reRunFromTaskId": task_id, **({"taskInput": task_input} if task_input else {})}
        self.call("POST", f"/workflow/{workflow_id}/rerun", body)

    def restart(self, workflow_id: str) -> None:
        """Restart an ended workflow."""
        self.call("POST", f"/workflow/{workflow_id}/restart")

    def retry(self, workflow_id: str) -> None:
        """Retry the failed tasks of an ended workflow."""
        self.call("POST", f"/workflow/{workflow_id}/retry")

    def remove(self, workflow_id: str) -> None:
        """Remove an ended workflow from the server."""
        self.call("DELETE", f"/workflow/{workflow_id}/remove")

    def settle(self, workflow_id: str, task_id: str, status: str, **fields: Any) -> None:
        """Send the update of an attempt in place of its worker. The server does not check the sender
        (`docs/dev/servers/conductor.md`, "Attempt state machine")."""
        self.call("POST", "/tasks", {"workflowInstanceId": workflow_id, "taskId": task_id, "status": status, **fields})

    def redeliver(self, workflow_id: str, task_id: str) -> None:
        """Hand an attempt that a worker holds to the next poller."""
        self.settle(workflow_id, task_id, "IN_PROGRESS", callbackAfterSeconds=0)

    def task_log(self, task_id: str) -> str:
        """Return the task log of an attempt as text."""
        return "\n".join(entry["log"] for entry in self.log_entries(task_id))

    def log_entries(self, task_id: str) -> list[dict[str, Any]]:
        """Return the entries of the task log of an attempt."""
        return self.call("GET", f"/tasks/{task_id}/log") or []


def definition(name: str, steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the definition of a workflow of `steps`."""
    tasks = list(steps)
    return {"name": name, "version": 1, "schemaVersion": 2, "ownerEmail": "live@example.com", "tasks": tasks}


def described(workflow: Mapping[str, Any]) -> str:
    """Describe a workflow and its attempts, for messages."""
    tasks = [
        f"  {task['referenceTaskName']} retry {task.get('retryCount')} polled {task.get('pollCount')}: "
        f"{task['status']} {task.get('reasonForIncompletion', '')}"
        for task in workflow["tasks"]
    ]
    return "\n".join([f"workflow {workflow['workflowId']} is {workflow['status']}", *tasks])


def step(task: str, reference: str = "step", **inputs: str) -> dict[str, Any]:
    """Return a step that runs `task` with these inputs."""
    return {"name": task, "taskReferenceName": reference, "type": "SIMPLE", "inputParameters": inputs}
