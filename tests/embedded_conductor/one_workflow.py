"""A small workflow on the model, for tests that read like the port."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perago.embedded.clock import VirtualClock
from perago.embedded.conductor import InMemoryConductor
from perago.ports import Delivery, Report, TaskStatus

DONE = Report(TaskStatus.COMPLETED, {"done": True})
FAILED = Report(TaskStatus.FAILED, {"partial": True}, "boo")


class OneWorkflow:
    """A model with one task type `t` and a workflow `w` that runs it in `steps` steps `r0`, `r1`, ..."""

    def __init__(self, *, steps: int = 1, step: Mapping[str, Any] | None = None, **definition: Any) -> None:
        self.clock = VirtualClock()
        self.conductor = InMemoryConductor(self.clock, seed=1)
        self.conductor.register_task_definitions([{"name": "t", "retryCount": 1, "retryDelaySeconds": 0, **definition}])
        tasks = [{"name": "t", "taskReferenceName": f"r{index}", **(step or {})} for index in range(steps)]
        self.conductor.create_workflow_definition({"name": "w", "tasks": tasks})
        self.workflow_id = self.conductor.start_workflow("w", {"x": 1})

    def poll(self, worker_id: str = "w0001") -> Delivery:
        """The one delivery that is due now."""
        (delivery,) = self.conductor.poll("t", worker_id, count=1, wait_seconds=0)
        return delivery

    def report(self, delivery: Delivery, report: Report = DONE, worker_id: str = "w0001") -> None:
        self.conductor.report(delivery, report, worker_id)

    @property
    def workflow(self) -> dict[str, Any]:
        return self.conductor.workflow(self.workflow_id)

    @property
    def tasks(self) -> list[dict[str, Any]]:
        return list(self.workflow["tasks"])

    @property
    def statuses(self) -> list[str]:
        """Of all attempts, in order."""
        return [task["status"] for task in self.tasks]
