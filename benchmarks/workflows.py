"""Workflows of one task type on a real Conductor, removed at the end of a benchmark."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.servers import call
from benchmarks.workers import wait_for
from perago.taskdef import build_task_definition, load_task

_STARTERS = 4
_BULK = 500


class Workflows:
    """A task type and a workflow of it. Times are the server's, in seconds since the epoch."""

    def __init__(self, url: str, task: str, steps: int) -> None:
        self.url = url
        self.task = task
        self._steps = steps
        self._started: list[str] = []

    def register(self) -> None:
        """Register the definitions on the server."""
        os.environ["BENCHMARK_TASK"] = self.task  # the module reads its name there
        definition = build_task_definition(load_task("benchmarks.tasks.noop"))
        call(f"{self.url}/metadata/taskdefs", "POST", [{**definition, "name": self.task}])
        simple = {"name": self.task, "type": "SIMPLE", "inputParameters": {"params": {}}}
        steps = [{**simple, "taskReferenceName": f"step{number}"} for number in range(self._steps)]
        workflow = {"name": self.task, "version": 1, "schemaVersion": 2, "tasks": steps}
        call(f"{self.url}/metadata/workflow", "PUT", [{**workflow, "ownerEmail": "benchmark@example.com"}])

    def start(self, count: int) -> list[str]:
        """Start workflows, and return their ids."""
        request = {"name": self.task, "version": 1, "input": {}}
        with ThreadPoolExecutor(_STARTERS) as pool:
            ids = list(pool.map(lambda _: str(call(f"{self.url}/workflow", "POST", request)), range(count)))
        self._started += ids
        return ids

    def wait(self, limit: float) -> None:
        """Wait until no workflow runs. While many do, request only the length of the queue.

        Raises:
            TimeoutError: after `limit` seconds.
        """
        sizes = f"{self.url}/tasks/queue/sizes?taskType={self.task}"
        running = f"{self.url}/workflow/running/{self.task}?version=1"
        wait_for("the queue to be empty", lambda: not call(sizes, "GET").get(self.task), limit, pause=0.1)
        wait_for("the workflows to end", lambda: not call(running, "GET"), limit)

    def tasks(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the finished tasks of workflows.

        Raises:
            RuntimeError: a workflow has not completed.
        """
        with ThreadPoolExecutor(_STARTERS) as pool:
            executions = list(pool.map(lambda workflow_id: call(f"{self.url}/workflow/{workflow_id}", "GET"), ids))
        for execution in executions:
            if execution["status"] != "COMPLETED":
                reason = execution.get("reasonForIncompletion")
                raise RuntimeError(f"a workflow ended as {execution['status']}: {reason}")
        return [task for execution in executions for task in execution["tasks"]]

    def remove(self) -> None:
        """Remove executions and definitions from the server."""
        for start in range(0, len(self._started), _BULK):
            batch = self._started[start : start + _BULK]
            with contextlib.suppress(OSError):
                call(f"{self.url}/workflow/bulk/terminate-remove", "DELETE", batch)
                call(f"{self.url}/workflow/bulk/remove", "DELETE", batch)
        for path in (f"metadata/workflow/{self.task}/1", f"metadata/taskdefs/{self.task}"):
            with contextlib.suppress(OSError):
                call(f"{self.url}/{path}", "DELETE")


@contextlib.contextmanager
def workflows(url: str, name: str, *, steps: int = 1) -> Iterator[Workflows]:
    """Register a new task type and a workflow of `steps` steps for the block."""
    workflows = Workflows(url, f"benchmark.{name}.{uuid.uuid4().hex[:8]}", steps)
    try:
        workflows.register()
        yield workflows
    finally:
        workflows.remove()
