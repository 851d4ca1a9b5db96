"""Workflows of one task type on a real Conductor, for as long as a benchmark needs them."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.servers import call
from benchmarks.workers import wait_for

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
        """Put the definitions on the server."""
        from perago.taskdef import build_task_definition, load_task

        os.environ["BENCHMARK_TASK"] = self.task  # the module reads its name there
        definition = build_task_definition(load_task("benchmarks.tasks.noop"))
        call(f"{self.url}/metadata/taskdefs", "POST", [{**definition, "name": self.task}])
        simple = {"name": self.task, "type": "SIMPLE", "inputParameters": {"params": {}}}
        steps = [{**simple, "taskReferenceName": f"step{number}"} for number in range(self._steps)]
        workflow = {"name": self.task, "version": 1, "schemaVersion": 2, "tasks": steps}
        call(f"{self.url}/metadata/workflow", "PUT", [{**workflow, "ownerEmail": "benchmark@example.com"}])

    def start(self, count: int) -> list[str]:
        """Start workflows; returns their ids."""

        def one(_: int) -> str:
            return str(call(f"{self.url}/workflow", "POST", {"name": self.task, "version": 1, "input": {}}))

        with ThreadPoolExecutor(_STARTERS) as pool:
            ids = list(pool.map(one, range(count)))
        self._started += ids
        return ids

    def wait(self, limit: float) -> None:
        """Until no workflow runs. While many do, only the length of the queue is asked for.

        Raises:
            TimeoutError: after `limit` seconds.
        """
        sizes = f"{self.url}/tasks/queue/sizes?taskType={self.task}"
        running = f"{self.url}/workflow/running/{self.task}?version=1"
        wait_for("the queue to be empty", lambda: not call(sizes, "GET").get(self.task), limit, pause=0.1)
        wait_for("the workflows to end", lambda: not call(running, "GET"), limit)

    def tasks(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """The finished tasks of all workflows.

        Raises:
            RuntimeError: one has not completed.
        """
        with ThreadPoolExecutor(_STARTERS) as pool:
            found = list(pool.map(lambda workflow: call(f"{self.url}/workflow/{workflow}", "GET"), ids))
        for workflow in found:
            if workflow["status"] != "COMPLETED":
                raise RuntimeError(f"a workflow ended as {workflow['status']}: {workflow.get('reasonForIncompletion')}")
        return [task for workflow in found for task in workflow["tasks"]]

    def remove(self) -> None:
        """Take everything from the server."""
        for start in range(0, len(self._started), _BULK):
            batch = self._started[start : start + _BULK]
            with contextlib.suppress(OSError):
                call(f"{self.url}/workflow/bulk/terminate-remove", "DELETE", batch)
                call(f"{self.url}/workflow/bulk/remove", "DELETE", batch)
        for what in (f"metadata/workflow/{self.task}/1", f"metadata/taskdefs/{self.task}"):
            with contextlib.suppress(OSError):
                call(f"{self.url}/{what}", "DELETE")


@contextlib.contextmanager
def workflows(url: str, name: str, *, steps: int = 1) -> Iterator[Workflows]:
    """A task type of its own and a workflow of so many steps of it, for the length of the block."""
    found = Workflows(url, f"benchmark.{name}.{uuid.uuid4().hex[:8]}", steps)
    try:
        found.register()
        yield found
    finally:
        found.remove()
