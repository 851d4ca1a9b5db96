"""Real workers on embedded services: `perago run`, `perago replay`, `perago backtest` and `perago demo`.

lakeFS and Conductor are embedded in this process. Supervisor and slot processes are those of production.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from perago.embedded.services import EmbeddedServices
from perago.failure import Failure
from perago.ports import TaskQueue
from perago.processes import INTERRUPTED
from perago.settings import ConductorSettings, LakeFSSettings
from perago.taskdef.definition import workflow_of_one
from perago.worker.events import (
    AttemptEnded,
    AttemptReceived,
    Event,
    Listener,
    PollingPaused,
    SlotDied,
    SlotReady,
    SlotStartFailed,
)
from perago.worker.exporters import exporting
from perago.worker.plan import ExportContext, StoreFactory, WorkerPlan
from perago.worker.supervisor import Supervisor

REPOSITORY = "local"
BRANCH = "main"
WORKFLOW = "local"
MAX_SLOT_DEATHS = 3
"""Number of deaths of a slot before the run fails. A worker on a server restarts slots forever, but here a person
waits."""
_STOP_LIMIT = 60.0
_EVENT_LIMIT = 30.0
"""Seconds in which the worker's event about the end of an attempt must follow its report to Conductor."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The way of workers on this machine to the services."""

    store_factory: StoreFactory
    queue: Callable[[], TaskQueue]
    """Makes the queue of one worker, to be closed by the caller."""
    preload: tuple[str, ...]
    """The modules that slot processes share from their start."""


def connection_to(services: EmbeddedServices) -> Connection:
    """Return the way to services that run: private, or HTTP with the adapters, as in production."""
    if services.store is not None:
        return Connection(services.store.factory, lambda: services.conductor, ("perago.driver",))
    from perago.adapters.conductor import ConductorQueue
    from perago.adapters.lakefs import LakeFSStore

    keys = services.keys
    lakefs = LakeFSSettings(services.lakefs_url, keys.access_key_id, SecretStr(keys.secret_access_key))
    return Connection(
        functools.partial(LakeFSStore, lakefs),
        functools.partial(ConductorQueue, ConductorSettings(services.conductor_url, None, None)),
        ("perago.driver", "perago.adapters.lakefs"),
    )


class RunFailed(Failure):
    """A worker ended before its task did."""


@dataclass(frozen=True, slots=True)
class LocalTask:
    """A task of the workflow: the worker that runs it, and its TaskDef."""

    plan: WorkerPlan
    definition: Mapping[str, Any]


def run_workflow(
    services: EmbeddedServices,
    tasks: Sequence[LocalTask],
    workflow: Mapping[str, Any],
    payload: Mapping[str, Any],
    listener: Listener,
    look: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run a workflow to its end.

    A failed task ends the workflow without retries, because a person who watches wants to see the failure.

    Args:
        services: Where the workflow runs.
        tasks: All tasks of the workflow, without duplicates.
        workflow: Its definition.
        payload: Its input.
        listener: Hears the events of all workers, one at a time.
        look: Called at least every tenth of a second. An exception from it ends the run.

    Returns:
        The workflow as Conductor shows it.

    Raises:
        RunFailed: a worker could not start or ended early. The listener got its messages.
    """
    conductor = services.conductor
    conductor.register_task_definitions([{**task.definition, "retryCount": 0} for task in tasks])
    conductor.create_workflow_definition(workflow)
    turns = InTurn(listener)
    try:
        with Workers(services, tasks, turns.hear) as workers:
            workflow_id = conductor.start_workflow(workflow["name"], payload)
            while conductor.workflow(workflow_id, include_tasks=False)["status"] == "RUNNING":
                workers.wait()
                look()
    finally:
        turns.finish()
    return conductor.workflow(workflow_id)


def workflow_of(task: LocalTask) -> dict[str, Any]:
    """Return the workflow of one task, which gets the workflow's input as its own."""
    return workflow_of_one(WORKFLOW, task.definition["name"], task.definition["inputKeys"], "step0")


class Workers:
    """Run one supervisor for each task, each on a thread. All of them stop at the end of the context.

    Args:
        services: where the tasks are polled.
        tasks: the tasks to run.
        hear: gets the number of a worker and its event, from several threads.
    """

    def __init__(
        self, services: EmbeddedServices, tasks: Sequence[LocalTask], hear: Callable[[int, Event], None]
    ) -> None:
        self._news = threading.Condition()
        self._notify = hear
        self._ended = 0
        self._paused = ""
        self._deaths = [0] * len(tasks)
        """The number of deaths of each worker's slots since the last one was ready."""
        self._queues = [connection_to(services).queue() for _ in tasks]
        self._exports = ExitStack()
        self._supervisors: list[Supervisor] = []
        for number, (task, queue) in enumerate(zip(tasks, self._queues, strict=True)):
            listeners = self._exports.enter_context(exporting(ExportContext(plan=task.plan)))
            hear = functools.partial(self._hear, number)
            self._supervisors.append(Supervisor(task.plan, queue, *listeners, hear, clock=services.clock))
        self._threads = [
            threading.Thread(target=self._run, args=(supervisor.run,), name=f"perago-worker-{number}")
            for number, supervisor in enumerate(self._supervisors)
        ]

    def __enter__(self) -> Workers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let the workers drain; after an error or Ctrl-C, cancel what still runs."""
        for supervisor in self._supervisors:
            if kind is None:
                supervisor.stop()
            else:
                supervisor.cancel(INTERRUPTED if kind is KeyboardInterrupt else "the command ends")
        for thread in self._threads:
            thread.join(_STOP_LIMIT)
        self._exports.close()
        for queue in self._queues:
            queue.close()

    def wait(self) -> None:
        """Wait for an event, for a short time at most.

        Raises:
            RunFailed: a worker is down, cannot take work here, or its process dies repeatedly before it is ready.
        """
        with self._news:
            self._news.wait(0.1)
            if self._ended:
                raise RunFailed("the worker ended before the task did")
            if self._paused:
                raise RunFailed(f"this host cannot run attempts: {self._paused}")
            if max(self._deaths) >= MAX_SLOT_DEATHS:
                raise RunFailed(f"the worker's process ended {MAX_SLOT_DEATHS} times in a row before it was ready")

    def _run(self, work: Callable[[], int]) -> None:
        try:
            work()
        finally:
            with self._news:
                self._ended += 1
                self._news.notify_all()

    def _hear(self, worker: int, event: Event) -> None:
        self._notify(worker, event)
        with self._news:
            if isinstance(event, SlotDied | SlotStartFailed):
                self._deaths[worker] += 1
            elif isinstance(event, SlotReady):
                self._deaths[worker] = 0
            elif isinstance(event, PollingPaused):
                self._paused = event.reason
            self._news.notify_all()


class InTurn:
    """Passes events on to `listener`, one attempt at a time; events of other slots wait in the meantime.

    Tasks of a fork run at the same time. Over HTTP, the worker of the next step can start before the previous worker
    knows that its report arrived. The listener gets all events of one attempt before those of the next.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._current: tuple[int, str] | None = None
        """The worker and the slot of the current attempt."""
        self._waiting: deque[tuple[int, Event]] = deque()

    def hear(self, worker: int, event: Event) -> None:
        """Handle an event of worker number `worker`. Thread-safe."""
        with self._lock:
            self._waiting.append((worker, event))
            self._notify()

    def finish(self) -> None:
        """Pass on the remaining events, because all workers have ended."""
        with self._lock:
            for _, event in self._waiting:
                self._listener(event)
            self._waiting.clear()

    def _notify(self) -> None:
        """Pass on the events of the current attempt. Begin again with the oldest event after an attempt has ended."""
        position = 0
        while position < len(self._waiting):
            worker, event = self._waiting[position]
            if not self._is_current(worker, event):
                position += 1
                continue
            del self._waiting[position]
            self._listener(event)
            if isinstance(event, AttemptReceived):
                self._current = worker, event.worker_id
            elif isinstance(event, AttemptEnded):
                self._current, position = None, 0

    def _is_current(self, worker: int, event: Event) -> bool:
        """Return whether the event is about the current attempt, or about its worker."""
        return self._current is None or (
            worker == self._current[0] and getattr(event, "worker_id", None) in (None, self._current[1])
        )


class PersistentWorker:
    """Runs attempts of one task until its context ends. Several threads can call `run`.

    A failed task is not retried, even if its TaskDef allows retries.

    Args:
        services: where the attempts run.
        task: the task; its plan has the number of slots.
        listener: hears the events of all attempts, from several threads.
    """

    def __init__(self, services: EmbeddedServices, task: LocalTask, listener: Listener) -> None:
        self._services = services
        self._task = task
        self._listener = listener
        self._workers = Workers(services, [task], self._hear)
        self._over: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> PersistentWorker:
        conductor = self._services.conductor
        conductor.register_task_definitions([{**self._task.definition, "retryCount": 0}])
        conductor.create_workflow_definition(workflow_of(self._task))
        self._workers.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._workers.__exit__(kind)

    def run(self, payload: Mapping[str, Any], look: Callable[[], None] = lambda: None) -> Mapping[str, Any]:
        """Run one attempt to its end.

        Args:
            payload: the input of the task.
            look: called at least every tenth of a second. An exception from it ends the wait.

        Returns:
            Conductor's row of the attempt, once the listener has heard all of it.

        Raises:
            RunFailed: the worker ended early.
        """
        conductor = self._services.conductor
        workflow_id = conductor.start_workflow(workflow_of(self._task)["name"], payload)
        while conductor.workflow(workflow_id, include_tasks=False)["status"] == "RUNNING":
            self._workers.wait()
            look()
        row: Mapping[str, Any] = conductor.workflow(workflow_id)["tasks"][0]
        over, limit = self._over_of(row["taskId"]), time.monotonic() + _EVENT_LIMIT
        while not over.is_set() and time.monotonic() < limit:
            self._workers.wait()
            look()
        with self._lock:
            del self._over[row["taskId"]]
        return row

    def _hear(self, worker: int, event: Event) -> None:  # noqa: ARG002 - there is one worker
        """Pass an event on, and note the end of an attempt."""
        self._listener(event)
        if isinstance(event, AttemptEnded):
            self._over_of(event.delivery.task_id).set()

    def _over_of(self, task_id: str) -> threading.Event:
        with self._lock:
            return self._over.setdefault(task_id, threading.Event())
