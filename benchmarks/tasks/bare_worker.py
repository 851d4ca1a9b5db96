"""A worker of plain conductor-python: `python -m benchmarks.tasks.bare_worker TASK THREADS`, until SIGTERM."""

import signal
import sys
import time
from typing import Any

from conductor.client.automator.task_handler import TaskHandler
from conductor.client.configuration.configuration import Configuration
from conductor.client.http.models.task import Task
from conductor.client.worker.worker import Worker


# No `from __future__ import annotations`: the SDK reads the annotation itself.
def noop(task: Task) -> dict[str, Any]:  # noqa: ARG001 - the signature that the SDK wants
    """Do what the perago task of the same name does."""
    return {"result": {"ran": time.time()}}


def main(task: str, threads: int) -> None:
    """Work until stopped. The server is named by `CONDUCTOR_SERVER_URL`."""
    workers = [Worker(task_definition_name=task, execute_function=noop, thread_count=threads)]
    handler = TaskHandler(workers, Configuration(), scan_for_annotated_workers=False)
    handler.start_processes()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    handler.stop_processes()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
