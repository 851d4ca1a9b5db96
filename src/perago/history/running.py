"""Run one attempt on this machine, in a worker process or under a debugger.

Under a debugger, the time of both services is virtual, so that nothing times out while a person thinks.
"""

from __future__ import annotations

import ast
import bdb
import contextlib
import json
import pdb
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from perago.authoring import Task
from perago.authoring.context import Current
from perago.driver import (
    AttemptRecord,
    AttemptRuntime,
    FunctionCaller,
    Limits,
    Raised,
    Returned,
    call_function,
    deliver_report,
    run_attempt,
)
from perago.driver.runtime import Direction, Observer
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.lakefs import InMemoryLakeFS
from perago.failure import Failure
from perago.ports import VirtualClock
from perago.processes import raise_pending_signal
from perago.taskdef import build_task_definition, load_task
from perago.taskdef.definition import workflow_of_one
from perago.text import listing, quoted
from perago.worker import events
from perago.worker.plan import TaskPlan, WorkerPlan, environment_of, limits_of, logs_of

if TYPE_CHECKING:
    from perago.embedded.services import EmbeddedServices
    from perago.probe import TaskSummary
    from perago.settings import Settings
    from perago.worker.events import Listener


WORKER = "local0001"
"""The worker id of an attempt in this process."""


class ServicesHere:
    """A Conductor and a lakeFS on virtual time, for one attempt in this process. Use it as a context manager.

    Args:
        limits: what the attempt is allowed.
        workspace_root: the directory of its workspace.
        call: calls the task function.
    """

    def __init__(self, limits: Limits, workspace_root: Path, call: FunctionCaller) -> None:
        self._clock = VirtualClock()
        self._limits = limits
        self._workspace_root = workspace_root
        self._call = call
        self.lakefs: InMemoryLakeFS = InMemoryLakeFS(self._clock)
        self.conductor: InMemoryConductor = InMemoryConductor(self._clock)

    def __enter__(self) -> ServicesHere:
        return self

    def __exit__(self, *_: object) -> None:
        self.lakefs.close()

    def run(self, task: Task, payload: Mapping[str, Any], listener: events.Listener) -> Mapping[str, Any]:
        """Run one attempt of a task with this input, and report it. Return Conductor's row of the attempt."""
        definition = build_task_definition(task)
        workflow = workflow_of_one("local", task.name, definition["inputKeys"], "step0")
        self.conductor.register_task_definitions([definition])
        self.conductor.create_workflow_definition(workflow)
        self.conductor.start_workflow(workflow["name"], payload)
        (delivery,) = self.conductor.poll(task.name, WORKER, count=1, wait_seconds=0)
        started = time.monotonic()
        listener(events.AttemptReceived(delivery, WORKER))
        runtime = AttemptRuntime(
            store=self.lakefs,
            delivery_check=self.conductor,
            workspace_root=self._workspace_root,
            clock=self._clock,
            limits=self._limits,
            call=self._call,
            observer=_Relay(listener),
            worker_id=WORKER,
        )
        record = run_attempt(task, delivery, runtime)
        listener(events.AttemptRecorded(WORKER, record))
        if record.report is not None:
            deliver_report(self.conductor, self._clock, delivery, record.report, WORKER, self._limits)
        listener(_ended(record, time.monotonic() - started))
        return self.conductor.get_task(delivery.task_id)


@dataclass(slots=True)
class _Caller:
    """Call the function, and keep its output away from the result on standard output."""

    listener: events.Listener
    debugging: Debugging
    has_quit: bool = False

    def __call__(self, task: Task, workspace: Path | None, params: BaseModel, current: Current) -> Returned | Raised:
        # A debugger needs a terminal as it is. Elsewhere standard output is for the result alone.
        with contextlib.nullcontext() if sys.stdout.isatty() else contextlib.redirect_stdout(sys.stderr):
            ended = call_function(task, workspace, params, current, on_error=self._debug)
        return Raised("error", "the debugger was quit") if self.has_quit else ended

    def _debug(self, error: BaseException) -> None:
        """Show the traceback, and open the debugger in its innermost frame."""
        self.has_quit = isinstance(error, bdb.BdbQuit)
        if isinstance(error, bdb.BdbQuit | KeyboardInterrupt):
            return
        frames = error.__traceback__
        if frames is not None and not self.debugging.all_frames:
            frames = frames.tb_next  # without the one that called the function
        self.listener(events.FunctionSaid(WORKER, "".join(traceback.format_exception(type(error), error, frames))))
        if self.debugging.post_mortem and frames is not None:
            pdb.post_mortem(frames)


def _ended(record: AttemptRecord, seconds: float) -> events.Event:
    report = record.report
    if report is None:
        return events.AttemptEnded(record.delivery, WORKER, events.Ending.LOST, seconds, record.lost_reason)
    reported = (events.Ending.REPORTED, seconds, report.reason, report.status, record.published_commit)
    return events.AttemptEnded(record.delivery, WORKER, *reported)


class _Relay(Observer):
    """An `Observer` that passes the events of the attempt to a listener."""

    def __init__(self, listener: events.Listener) -> None:
        self._listener = listener

    def step(self, name: str) -> None:
        """Pass on the name of the command."""
        self._listener(events.StepStarted(WORKER, name))

    def transferred(self, direction: Direction, objects: int, size: int, total_objects: int, total_size: int) -> None:
        """Pass on the progress."""
        self._listener(events.Transferred(WORKER, direction, objects, size, total_objects, total_size))

    def log(self, text: str) -> None:
        """Pass on the line."""
        self._listener(events.FunctionSaid(WORKER, text))

    def progress(self, done: int, total: int) -> None:
        """Pass it on."""
        self._listener(events.FunctionProgress(WORKER, done, total))

    def waiting(self, text: str, is_over: bool) -> None:
        """Pass it on."""
        self._listener((events.LakeFSBack if is_over else events.WaitingForLakeFS)(WORKER, text))


_GRACE = 2.0
"""Seconds between TERM and KILL after a person at the terminal canceled the run."""


@dataclass(frozen=True, slots=True)
class Debugging:
    """Options for a function that runs in this process.

    `post_mortem` opens a debugger where the function raises an exception. `all_frames` shows the frames of perago in
    tracebacks, too.
    """

    post_mortem: bool
    all_frames: bool


def services_of(
    settings: Settings, listener: Listener, debugging: Debugging | None = None
) -> EmbeddedServices | ServicesHere:
    """Create the services for one attempt.

    Args:
        settings: for limits and roots.
        listener: gets the output of a function in this process.
        debugging: the way in which the function runs in this process; None: it runs in a worker process.
    """
    if debugging is None:
        from perago.embedded.services import EmbeddedServices

        return EmbeddedServices.for_workers()

    caller = _Caller(listener, debugging)
    return ServicesHere(_limits(settings), settings.workspace_root, caller)


def run_locally(
    services: EmbeddedServices | ServicesHere,
    module: str,
    task: TaskSummary,
    settings: Settings,
    params: Mapping[str, Any],
    ref: str | None,
    listener: Listener,
) -> Mapping[str, Any]:
    """Run one attempt, as a worker does or in this process.

    Args:
        services: what `services_of` made, with the workspace committed.
        module: the import path of the task module.
        task: its task.
        settings: give roots, logs and limits.
        params: the task's parameters.
        ref: the commit of the workspace; None for a task without one.
        listener: hears the events of the attempt.

    Returns:
        Conductor's row of the attempt.

    Raises:
        Failure: the worker could not be started.
    """
    from perago.local import BRANCH, REPOSITORY, LocalTask, RunFailed, run_workflow, workflow_of
    from perago.taskdef.payload import workspace_block

    payload: dict[str, Any] = {"params": params}
    if ref is not None:
        payload["workspace"] = workspace_block(REPOSITORY, BRANCH, ref)
    if isinstance(services, ServicesHere):
        return services.run(load_task(module), payload, listener)
    only = LocalTask(plan_for(module, task, settings, services), json.loads(task.definition))
    try:
        ended = run_workflow(services, [only], workflow_of(only), payload, listener, raise_pending_signal)
    except RunFailed as error:
        raise Failure(f"{error}; see the messages above") from error
    row: Mapping[str, Any] = ended["tasks"][0]
    return row


def plan_for(
    module: str, task: TaskSummary, settings: Settings, services: EmbeddedServices, number: int = 1
) -> WorkerPlan:
    """Plan a worker with one slot on local services, watched.

    Args:
        module: the import path of the task module.
        task: its task.
        settings: for roots, logs and limits; its servers are not used.
        services: the address of lakeFS.
        number: distinguishes the workers of a run; from 1.
    """
    from perago.local import connection_to
    from perago.settings import configured_mask

    way = connection_to(services)
    planned = TaskPlan(module=module, name=task.name, environment=environment_of(task), store_factory=way.store_factory)
    return WorkerPlan(
        name=module,
        tasks=(planned,),
        worker_prefix=f"local{number}",
        mask=configured_mask(),
        workspace_root=settings.workspace_root,
        logs=logs_of(settings),
        limits=_limits(settings),
        shutdown_grace=_GRACE,
        preload=way.preload,
        watch=True,
    )


def _limits(settings: Settings) -> Limits:
    """Return the limits for services of this run, while the author watches."""
    return replace(limits_of(settings), allowed_workspaces=None, fail_on_left_files=True)


def breakpoint_in(files: Iterable[str]) -> str | None:
    """Return where one of these files calls `breakpoint()` or `set_trace()`, as `file:line`, or None."""
    for file in files:
        with contextlib.suppress(OSError, SyntaxError, ValueError):
            for node in ast.walk(ast.parse(Path(file).read_bytes())):
                if isinstance(node, ast.Call):
                    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                    if name in ("breakpoint", "set_trace"):
                        return f"{file}:{node.lineno}"
    return None


# ------------------------------------------------------------------------------- trees on this disk


def files_below(directory: Path, key_prefix: str) -> dict[str, str | bytes | Path | None]:
    """Return every file below `directory` by its key. Links are refused, because a workspace has none.

    The hooks in `_lakefs_actions/` are left out: they are never part of a workspace.

    Raises:
        Failure: the directory is missing, or contains entries that no object store can hold.
        WorkspaceGone: it cannot be opened.
    """
    from perago.workspace.keys import is_reserved
    from perago.workspace.scan import scan_tree

    if not directory.is_dir():
        raise Failure(f"{directory} is not a directory; give one that holds the task's input files")
    tree = scan_tree(directory.resolve())
    wrong = [f"{quoted(entry.path)} ({entry.kind})" for entry in tree.irregular]
    wrong += [f"{quoted(entry.path)} ({entry.reason})" for entry in tree.unreadable]
    if wrong:
        problem = f"only readable files and directories can, but it holds {listing(wrong)}"
        raise Failure(f"{directory} cannot be a workspace: {problem}; move them away or copy what they point at")
    keys = {key_prefix + path: directory / path for path in tree.files}
    return {key: file for key, file in keys.items() if not is_reserved(key)}


def write_tree(lakefs: InMemoryLakeFS, ref: str, prefix: str, output: Path) -> None:
    """Write a published tree to a directory.

    Args:
        lakefs: the lakeFS with the commit.
        ref: the commit.
        prefix: the prefix of the keys; the rest of a key is the path of its file.
        output: the directory, which is created if it is missing.

    Raises:
        Failure: the disk failed.
    """
    from perago.local import REPOSITORY

    try:
        lakefs.export(REPOSITORY, ref, output, prefix=prefix)
    except (OSError, ValueError) as error:
        raise Failure(f"cannot write the published tree to {output}: {error}") from error
