"""Workers for the official SDK's task handler, in a module of their own: they run in processes that import it."""

from __future__ import annotations

from typing import Any

from conductor.client.http.models import Task, TaskResult
from conductor.client.http.models.task_result_status import TaskResultStatus
from conductor.client.worker.worker_interface import WorkerInterface


class Adder(WorkerInterface):  # type: ignore[misc]
    """Adds one to `n`, and says how often it was asked."""

    def execute(self, task: Task) -> TaskResult:
        result = self.get_task_result_from_task(task)
        result.status = TaskResultStatus.COMPLETED
        result.output_data = {"n": task.input_data["n"] + 1, "polls": task.poll_count}
        return result

    def get_polling_interval_in_seconds(self) -> float:
        return 0.05


class Failing(WorkerInterface):  # type: ignore[misc]
    """Raises."""

    def execute(self, task: Task) -> Any:
        raise ValueError(f"no {task.reference_task_name}")

    def get_polling_interval_in_seconds(self) -> float:
        return 0.05
