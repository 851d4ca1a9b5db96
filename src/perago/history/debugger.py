"""One attempt in this process, so that a debugger has the terminal: `perago run` with --pdb or a breakpoint().

The attempt is the real one, on the services that tests use. Their time is virtual, so nothing times out while a person
thinks. What is missing is the worker process.
"""

from __future__ import annotations

import bdb
import contextlib
import pdb
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from perago.authoring import Task
from perago.authoring.context import Current
from perago.driver import AttemptRecord, Raised, Returned, call_function
from perago.driver.runtime import Direction, Observer
from perago.local import REPOSITORY
from perago.taskdef import load_task
from perago.testing.conductor import WORKER
from perago.testing.services import InMemoryServices
from perago.worker import events

if TYPE_CHECKING:
    from perago.driver import Limits
    from perago.history.running import Debugging


def run_here(
    services: InMemoryServices, module: str, params: Mapping[str, Any], ref: str | None, listener: events.Listener
) -> Mapping[str, Any]:
    """Import the module and run one attempt of its task.

    Args:
        services: What `services_for` made, with the workspace committed.
        module: The import path of the task module.
        params: The task's parameters, as a workflow would send them.
        ref: The commit of the workspace; None for a task without one.
        listener: Hears the events of the attempt.

    Returns:
        Conductor's row of the attempt.
    """
    task = load_task(module)
    services.start(task, params, ref=ref, repository=REPOSITORY)
    delivery = services.take(task)
    started = time.monotonic()
    listener(events.AttemptReceived(delivery, WORKER))
    record = services.run_delivery(task, delivery, _Relay(listener))
    listener(events.AttemptRecorded(WORKER, record))
    row = services.report(record).task
    listener(_ended(record, time.monotonic() - started))
    return row


def services_for(limits: Limits, root: Path, listener: events.Listener, debugging: Debugging) -> InMemoryServices:
    """Services that call the function in the terminal.

    Args:
        limits: What the attempt is allowed.
        root: Where the attempt directory is made.
        listener: Hears what the function says.
        debugging: How the function runs.
    """
    return InMemoryServices(limits=limits, workspace_root=root, call=_Caller(listener, debugging))


class _Caller:
    """Calls the function, with what it prints kept from the result on standard output."""

    def __init__(self, listener: events.Listener, debugging: Debugging) -> None:
        self._listener = listener
        self._debugging = debugging
        self._quit = False

    def __call__(self, task: Task, workspace: Path | None, params: BaseModel, current: Current) -> Returned | Raised:
        # A debugger needs a terminal as it is. Elsewhere standard output is for the result alone.
        with contextlib.nullcontext() if sys.stdout.isatty() else contextlib.redirect_stdout(sys.stderr):
            ended = call_function(task, workspace, params, current, on_error=self._look)
        return Raised("error", "the debugger was quit") if self._quit else ended

    def _look(self, error: BaseException) -> None:
        """Show the traceback, and open the debugger in its innermost frame."""
        self._quit = isinstance(error, bdb.BdbQuit)
        if isinstance(error, bdb.BdbQuit | KeyboardInterrupt):
            return
        frames = error.__traceback__
        if frames is not None and not self._debugging.all_frames:
            frames = frames.tb_next  # without the one that called the function
        self._listener(events.FunctionSaid(WORKER, "".join(traceback.format_exception(type(error), error, frames))))
        if self._debugging.post_mortem and frames is not None:
            pdb.post_mortem(frames)


def _ended(record: AttemptRecord, seconds: float) -> events.Event:
    report = record.report
    if report is None:
        return events.AttemptEnded(record.delivery, WORKER, events.Ending.LOST, seconds, record.lost_reason)
    return events.AttemptEnded(
        record.delivery,
        WORKER,
        events.Ending.REPORTED,
        seconds,
        report.reason,
        report.status,
        record.published_commit,
    )


class _Relay(Observer):
    """An `Observer` that passes the events of the attempt to a listener."""

    def __init__(self, listener: events.Listener) -> None:
        self._listener = listener

    def step(self, name: str) -> None:
        """Pass on the name of the command."""
        self._listener(events.StepStarted(WORKER, name))

    def transferred(self, direction: Direction, objects: int, size: int, total_objects: int, total_size: int) -> None:
        """Pass on how far it is."""
        self._listener(events.Transferred(WORKER, direction, objects, size, total_objects, total_size))

    def log(self, text: str) -> None:
        """Pass on the line."""
        self._listener(events.FunctionSaid(WORKER, text))

    def progress(self, done: int, total: int) -> None:
        """Pass it on."""
        self._listener(events.FunctionProgress(WORKER, done, total))

    def waiting(self, text: str) -> None:
        """Pass it on."""
        self._listener(events.WaitingForLakeFS(WORKER, text))

    def publishing(self, repository: str, branch: str, expected_head: str, words: str) -> None:
        """This process cannot die in between without being seen."""
