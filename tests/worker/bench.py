"""Runs a worker with real processes in the test's own process, and waits for what should happen."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import psutil

from perago.driver import Limits
from perago.ports import Report, TaskQueue, TaskStatus
from perago.worker.events import AttemptEnded, Ending, Event, Listener, WorkerReady
from perago.worker.exporters import exporting
from perago.worker.plan import ExportContext, LogPlan, TaskPlan, WorkerPlan
from perago.worker.supervisor import Supervisor

from .small_queue import SmallQueue

BEHAVES = f"{__package__}.tasks.behaves"
LIMIT = 30.0
DEPTH = 4
"""Of an attempt directory below the root: workflow, task name, task id, attempt."""

T = TypeVar("T")


def wait_for(what: str, condition: Callable[[], T | None], limit: float = LIMIT) -> T:
    """What `condition` returns once that is true; fails with `what` after `limit` seconds. The last look is after them:
    this process may have stood still in between. Looks become rarer, because some are requests to what is tested."""
    deadline, pause = time.monotonic() + limit, 0.005
    while True:
        is_late = time.monotonic() >= deadline
        if result := condition():
            return result
        if is_late:
            raise AssertionError(f"waited {limit:g} s in vain for {what}")
        time.sleep(pause)
        pause = min(pause * 1.2, 0.05)


def release(file: Path) -> None:
    """Let a function end that `waits` with `file`."""
    file.with_suffix(".end").touch()


def planned(module: str = BEHAVES, **more: Any) -> TaskPlan:
    """A module of these tests, whose task is called after it."""
    return TaskPlan(module=module, name=f"worker.{module.rpartition('.')[2]}", **more)


def make_plan(directory: Path, *tasks: TaskPlan, **changes: Any) -> WorkerPlan:
    """A worker of one slot, for `behaves` if no task is given, with everything below `directory`."""
    tasks = tasks or (planned(),)
    plan = WorkerPlan(
        name=tasks[0].module,
        tasks=tasks,
        worker_prefix="test",
        workspace_root=directory / "workspaces",
        logs=LogPlan(root=directory / "logs"),
        limits=Limits(),
        shutdown_grace=LIMIT,
        preload=("perago.driver", "pytest"),
    )
    return replace(plan, **changes)


def attempt_directories(root: Path) -> list[Path]:
    """Those that exist below `root`, which may go meanwhile: `os.walk` bears that, `Path.glob` does not."""
    places = (Path(place) for place, _, _ in os.walk(root))
    return [place for place in places if len(place.relative_to(root).parts) == DEPTH]


class RunningWorker:
    """A supervisor on a thread, and everything it said."""

    def __init__(self, plan: WorkerPlan, queue: TaskQueue, *more: Listener) -> None:
        self.events: list[Event] = []
        self.exit_code: int | None = None
        self.plan = plan
        self._queue = queue
        self._exports = contextlib.ExitStack()
        listeners = self._exports.enter_context(exporting(ExportContext(plan=plan)))
        self.supervisor = Supervisor(plan, queue, *listeners, *more, self.events.append)
        self._thread = threading.Thread(target=self._run, name="worker under test", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._exports:
            self.exit_code = self.supervisor.run()

    def saw(self, kind: type[T]) -> list[T]:
        """The events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def ended(self, ending: Ending) -> list[AttemptEnded]:
        """The attempts that ended so."""
        return [event for event in self.saw(AttemptEnded) if event.ending is ending]

    def wait_until_down(self, limit: float = LIMIT) -> int | None:
        """Wait for the end and return the exit code."""
        deadline = time.monotonic() + limit
        while self._thread.is_alive() and time.monotonic() < deadline:
            if isinstance(self._queue, SmallQueue):
                self._queue.end_polls()  # also one that has just begun
            self._thread.join(0.02)
        assert not self._thread.is_alive(), f"the worker did not stop within {limit:g} s: {self.events}"
        return self.exit_code

    def end(self) -> None:
        """Stop it, whatever it does."""
        for _ in range(3):
            self.supervisor.stop()
        self.wait_until_down()


@contextlib.contextmanager
def running(plan: WorkerPlan, queue: TaskQueue, *more: Listener) -> Iterator[RunningWorker]:
    """A worker that is ready, for the length of the block. `more` hear its events, too."""
    worker = RunningWorker(plan, queue, *more)
    try:
        wait_for("the worker to be ready", lambda: worker.saw(WorkerReady))
        yield worker
    finally:
        worker.end()


def hold_reports(queue: SmallQueue) -> threading.Event:
    """Let no report through, until the event is set."""
    through = threading.Event()

    def fault(operation: str) -> None:
        if operation == "report":
            through.wait(LIMIT)

    queue.fault = fault
    return through


def outcome(queue: SmallQueue, task_id: str, limit: float = LIMIT) -> Report:
    """The report of `task_id`, as soon as there is one."""
    wait_for(f"the report of {task_id}", lambda: task_id in queue.reports, limit)
    return queue.reports[task_id][0]


def has_ended(pid: int) -> Callable[[], bool]:
    """Whether process `pid` has ended (a zombie has)."""

    def check() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        return True

    return check


def result(report: Report) -> str:
    assert report.status is TaskStatus.COMPLETED, report
    return str(report.output["result"]["text"])


def running_pid(file: Path) -> int:
    """The process that `sleeps`, `waits` or `ignores_term` runs in, once it does."""
    return int(wait_for("the function to run", lambda: file.read_text() if file.exists() else ""))
