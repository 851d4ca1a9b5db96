"""A worker that stays for many attempts of one task, several at a time, as a worker of a server does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from perago.local.steps import LocalTask, Services, Workers, workflow_of
from perago.worker import Event, Listener
from perago.worker.events import AttemptEnded

_LATE_EVENT = 30.0
"""Seconds for the worker's word that an attempt is over, which Conductor has heard of already."""


class StandingWorker:
    """Runs attempts of one task until its context is left. `run` may be called by several threads.

    A task that fails is not tried again, whatever retries its TaskDef would allow.

    Args:
        services: where the attempts run.
        task: what is run; its plan says how many slots there are.
        listener: hears the events of all attempts, from several threads.
    """

    def __init__(self, services: Services, task: LocalTask, listener: Listener) -> None:
        self._services = services
        self._task = task
        self._listener = listener
        self._workers = Workers(services, [task], self)
        self._over: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> StandingWorker:
        conductor = self._services.conductor
        conductor.register_task_definitions([{**self._task.definition, "retryCount": 0}])
        conductor.create_workflow_definition(workflow_of(self._task))
        self._workers.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._workers.__exit__(kind, error, traceback)

    def run(self, payload: Mapping[str, Any], look: Callable[[], None] = lambda: None) -> Mapping[str, Any]:
        """Run one attempt to its end.

        Args:
            payload: the input of the task.
            look: called every tenth of a second at the latest; what it raises ends the wait.

        Returns:
            Conductor's row of the attempt, once the listener has heard all of it.

        Raises:
            RunFailed: the worker ended by itself.
        """
        conductor = self._services.conductor
        workflow_id = conductor.start_workflow(workflow_of(self._task)["name"], payload)
        while conductor.workflow(workflow_id, include_tasks=False)["status"] == "RUNNING":
            self._workers.wait()
            look()
        row: Mapping[str, Any] = conductor.workflow(workflow_id)["tasks"][0]
        over, limit = self._over_of(row["taskId"]), time.monotonic() + _LATE_EVENT
        while not over.is_set() and time.monotonic() < limit:
            self._workers.wait()
            look()
        with self._lock:
            del self._over[row["taskId"]]
        return row

    def hear(self, worker: int, event: Event) -> None:  # noqa: ARG002 - there is one worker
        """As a `Teller`: pass it on, and note the end of an attempt."""
        self._listener(event)
        if isinstance(event, AttemptEnded):
            self._over_of(event.delivery.task_id).set()

    def finish(self) -> None:
        """As a `Teller`: nothing was kept back."""

    def _over_of(self, task_id: str) -> threading.Event:
        with self._lock:
            return self._over.setdefault(task_id, threading.Event())
