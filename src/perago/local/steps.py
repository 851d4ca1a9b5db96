"""Running a workflow of task modules, each with a worker of its own, to its end."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from perago.local.services import BRANCH, REPOSITORY
from perago.ports import Clock, TaskQueue
from perago.worker import Event, Listener, Supervisor, WorkerPlan
from perago.worker.events import AttemptEnded, AttemptReceived, SlotDied, SlotReady

WORKFLOW = "local"
MOST_DEATHS = 3
"""A worker of a server restarts slots for ever; here a person waits for an answer."""
_STOP_LIMIT = 60.0


class Conductor(Protocol):
    """What a Conductor must be able to do here: the model itself can, and so can `HttpConductor`."""

    def register_task_definitions(self, definitions: Sequence[Mapping[str, Any]]) -> None:
        """Create or replace TaskDefs."""
        ...

    def create_workflow_definition(self, definition: Mapping[str, Any]) -> None:
        """Create a workflow definition."""
        ...

    def start_workflow(self, name: str, payload: Mapping[str, Any]) -> str:
        """Start a workflow; returns its id."""
        ...

    def workflow(self, workflow_id: str, *, include_tasks: bool = True) -> dict[str, Any]:
        """A workflow and its attempts."""
        ...


class Services(Protocol):
    """Where a workflow is run: `LocalServices` or `ServedServices`."""

    @property
    def clock(self) -> Clock:
        """The time that both go by."""
        ...

    @property
    def conductor(self) -> Conductor:
        """Where the workflow is defined, started and watched."""
        ...

    def queue(self) -> TaskQueue:
        """What one worker polls; closed when it is down."""
        ...


class RunFailed(Exception):
    """A worker ended before its task did."""


@dataclass(frozen=True, slots=True)
class LocalStep:
    """One task of the workflow: the worker that runs it, its TaskDef, and what it gets."""

    plan: WorkerPlan
    definition: Mapping[str, Any]
    params: Mapping[str, Any]
    has_workspace: bool

    @property
    def name(self) -> str:
        """The task's name in Conductor."""
        return str(self.definition["name"])


def run_workflow(
    services: Services,
    steps: Sequence[LocalStep],
    ref: str | None,
    listener: Listener,
    look: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run the steps one after the other, each on what the one before published.

    A step that fails ends it, whatever retries its TaskDef would allow: a person who watches wants to see the failure.

    Args:
        services: Where the workflow runs.
        steps: Its tasks, in order.
        ref: The commit that the first step works on; None if no step has a workspace.
        listener: Hears the events of all workers, one at a time.
        look: Called every tenth of a second at the latest; what it raises ends the run.

    Returns:
        The workflow as Conductor shows it.

    Raises:
        RunFailed: a worker could not start or ended by itself; what it said went to the listener.
    """
    conductor = services.conductor
    _register(conductor, steps)
    payload = {f"params{number}": dict(step.params) for number, step in enumerate(steps)}
    workspace = None if ref is None else {"repository": REPOSITORY, "branch": BRANCH, "ref_type": "commit", "ref": ref}
    with _Workers(services, steps, listener) as workers:
        workflow_id = conductor.start_workflow(WORKFLOW, {**payload, "workspace": workspace})
        while conductor.workflow(workflow_id, include_tasks=False)["status"] == "RUNNING":
            workers.wait()
            look()
    return conductor.workflow(workflow_id)


def _register(conductor: Conductor, steps: Sequence[LocalStep]) -> None:
    conductor.register_task_definitions([{**step.definition, "retryCount": 0} for step in steps])
    tasks = []
    workspace = "${workflow.input.workspace}"
    for number, step in enumerate(steps):
        parameters = {"params": f"${{workflow.input.params{number}}}"}
        if step.has_workspace:
            parameters["workspace"] = workspace
            workspace = f"${{step{number}.output.workspace}}"
        tasks.append(
            {
                "name": step.name,
                "taskReferenceName": f"step{number}",
                "type": "SIMPLE",
                "inputParameters": parameters,
            }
        )
    definition = {"name": WORKFLOW, "version": 1, "schemaVersion": 2, "tasks": tasks}
    conductor.create_workflow_definition(definition)


class _Workers:
    """One supervisor a step, each on a thread; all are down when the context is left."""

    def __init__(self, services: Services, steps: Sequence[LocalStep], listener: Listener) -> None:
        self._news = threading.Condition()
        self._listener = InTurn(listener)
        self._ended = 0
        self._deaths = [0] * len(steps)
        """Of each worker's slot, since it was ready last."""
        self._queues = [services.queue() for _ in steps]
        self._supervisors = [
            Supervisor(step.plan, queue, functools.partial(self._hear, number), clock=services.clock)
            for number, (step, queue) in enumerate(zip(steps, self._queues, strict=True))
        ]
        self._threads = [
            threading.Thread(target=self._run, args=(supervisor.run,), name=f"perago-worker-{number}")
            for number, supervisor in enumerate(self._supervisors)
        ]

    def __enter__(self) -> _Workers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let the workers drain; after an error or Ctrl-C, cancel what still runs."""
        for supervisor in self._supervisors:
            if kind is None:
                supervisor.stop()
            else:
                supervisor.cancel("interrupted" if kind is KeyboardInterrupt else "the command ends")
        for thread in self._threads:
            thread.join(_STOP_LIMIT)
        for queue in self._queues:
            queue.close()
        self._listener.finish()

    def wait(self) -> None:
        """Wait until something happened, at most a moment.

        Raises:
            RunFailed: a worker is down, or its process dies again and again before it is ready.
        """
        with self._news:
            self._news.wait(0.1)
            if self._ended:
                raise RunFailed("the worker ended before the task did")
            if max(self._deaths) >= MOST_DEATHS:
                raise RunFailed(f"the worker's process ended {MOST_DEATHS} times in a row before it was ready")

    def _run(self, work: Callable[[], int]) -> None:
        try:
            work()
        finally:
            with self._news:
                self._ended += 1
                self._news.notify_all()

    def _hear(self, worker: int, event: Event) -> None:
        self._listener.hear(worker, event)
        with self._news:
            if isinstance(event, SlotDied):
                self._deaths[worker] += 1
            elif isinstance(event, SlotReady):
                self._deaths[worker] = 0
            self._news.notify_all()


class InTurn:
    """Passes events on to `listener`, one at a time; those of other workers wait while an attempt is being told.

    Over HTTP the next step's worker has its attempt before the worker of the step before has heard that its report
    arrived. The listener hears one story to its end before the next begins.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._teller: int | None = None
        self._waiting: deque[tuple[int, Event]] = deque()

    def hear(self, worker: int, event: Event) -> None:
        """Something happened in worker number `worker`. May be called by several threads."""
        with self._lock:
            self._waiting.append((worker, event))
            self._tell()

    def finish(self) -> None:
        """All workers are down: tell what is left."""
        with self._lock:
            for _, event in self._waiting:
                self._listener(event)
            self._waiting.clear()

    def _tell(self) -> None:
        """Tell what may be told; from the front again after every attempt that ends."""
        position = 0
        while position < len(self._waiting):
            worker, event = self._waiting[position]
            if self._teller not in (None, worker):
                position += 1
                continue
            del self._waiting[position]
            self._listener(event)
            if isinstance(event, AttemptReceived):
                self._teller = worker
            elif isinstance(event, AttemptEnded):
                self._teller, position = None, 0
