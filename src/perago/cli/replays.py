"""Running the task of today on the input of an attempt of the past, and what comes of it. Nothing is published."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from perago.cli.errors import CommandError, ExitCode
from perago.cli.files import write_tree
from perago.cli.local_run import plan_for, run_attempt, services_of
from perago.cli.signals import end_if_told
from perago.replay.past import remains_of
from perago.worker import events
from perago.workspace.changes import Changes

if TYPE_CHECKING:
    from perago.cli.attempt_view import AttemptView
    from perago.cli.past_attempts import Found
    from perago.cli.probe import TaskSummary
    from perago.driver import AttemptRecord
    from perago.replay.past import Past
    from perago.settings import Settings
    from perago.testing.remains import Remains
    from perago.worker.events import Listener


@dataclass(frozen=True, slots=True)
class Ran:
    """An attempt of today, and how long it took in seconds."""

    remains: Remains
    row: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class Input:
    """What the attempt of today gets. `files` are by their paths in the workspace."""

    params: Mapping[str, Any]
    files: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class How:
    """Where it runs. `here`: in this process; `post_mortem`: with a debugger where it raises."""

    settings: Settings
    here: bool = False
    post_mortem: bool = False


class Heard:
    """A listener that keeps the record of an attempt, and passes on what it hears."""

    def __init__(self, listener: Listener | None = None) -> None:
        self._listener = listener
        self.record: AttemptRecord | None = None
        self.seconds = 0.0
        """How long the attempt took, without the start of its worker."""

    @property
    def changes(self) -> Changes:
        """What the function did to its workspace; nothing, if its process died."""
        return self.record.changes if self.record is not None else Changes()

    def __call__(self, event: events.Event) -> None:
        """Keep and pass on."""
        if isinstance(event, events.AttemptRecorded):
            self.record = events.joined(self.record, event.record)
        elif isinstance(event, events.AttemptEnded):
            self.seconds = event.seconds
        if self._listener is not None:
            self._listener(event)


def run_again(
    found: Found, given: Input, how: How, directory: Path, view: AttemptView | None = None, output: Path | None = None
) -> Ran:
    """Run one attempt on services in memory.

    Args:
        found: the task.
        given: its params and input files.
        how: where it runs.
        directory: where the files go that it changes; it exists, and is empty.
        view: shows the attempt.
        output: a new directory for the whole published tree.

    Raises:
        CommandError: the worker could not be started, or `output` not be written.
        OSError: the disk refused.
    """
    from perago.local.services import BRANCH, REPOSITORY

    heard = Heard(view)
    with services_of(how.settings, heard, here=how.here, post_mortem=how.post_mortem) as services:
        ref = None
        if found.task.workspace is not None:
            ref = services.lakefs.seed(
                REPOSITORY, BRANCH, found.seed(given.files), message="the input of a past attempt"
            ).id
        with contextlib.nullcontext() if view is None or how.here else view:
            row = run_attempt(services, found.module, found.task, how.settings, given.params, ref, heard)
        remains = remains_of(services.lakefs, row, heard.changes, found.prefix, directory)
        if output is not None:
            block = row.get("outputData", {}).get("workspace")
            write_tree(services.lakefs, block["ref"] if block else None, found.prefix, output)
    return Ran(remains, row, heard.seconds)


def differs_from_itself(first: Remains, given: Input, again: Callable[[], Ran]) -> tuple[str, ...]:
    """What differs between the first attempt of today and one more; empty for a function that is deterministic.

    Args:
        first: what the first one left.
        given: what both get.
        again: runs it once more.
    """
    from perago.testing.remains import differences

    return differences(first, again().remains, given.files).summary


class SharedWorker:
    """One worker for many attempts, several at a time. Use it as a context manager; `run` may be called by threads.

    Args:
        settings: give roots, logs and limits.
        module: the import path of the task module.
        task: its task.
        jobs: how many attempts run at a time.
    """

    def __init__(self, settings: Settings, module: str, task: TaskSummary, jobs: int) -> None:
        from perago.local import LocalServices, LocalTask
        from perago.local.standing import StandingWorker

        self._services = LocalServices()
        plan = replace(plan_for(module, task, settings, self._services, 1), slots=jobs)
        self._worker = StandingWorker(self._services, LocalTask(plan, json.loads(task.definition)), self._hear)
        self._heard: dict[str, Heard] = {}
        self._lock = threading.Lock()
        self._repositories = itertools.count(1)
        self._open = contextlib.ExitStack()

    def __enter__(self) -> SharedWorker:
        self._open.enter_context(self._services)
        self._open.enter_context(self._worker)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, traceback)

    def run(self, found: Found, given: Input, directory: Path) -> Ran:
        """Run one attempt; the files that it changes go to a directory that exists and is empty.

        Raises:
            CommandError: the worker ended by itself.
            OSError: the disk refused.
        """
        from perago.local import RunFailed
        from perago.local.services import BRANCH

        repository = f"attempt-{next(self._repositories)}"
        payload: dict[str, Any] = {"params": given.params}
        lakefs = self._services.lakefs
        if found.task.workspace is not None:
            ref = lakefs.seed(repository, BRANCH, found.seed(given.files), message="the input of a past attempt").id
            payload["workspace"] = {"repository": repository, "branch": BRANCH, "ref_type": "commit", "ref": ref}
        try:
            row = self._worker.run(payload, end_if_told)
        except RunFailed as error:
            raise CommandError(ExitCode.FAILURE, str(error)) from error
        with self._lock:
            heard = self._heard.pop(row["taskId"], Heard())
        remains = remains_of(lakefs, row, heard.changes, found.prefix, directory)
        if found.task.workspace is not None:
            lakefs.server.delete_repository(repository)
        return Ran(remains, row, heard.seconds)

    def _hear(self, event: events.Event) -> None:
        if isinstance(event, events.AttemptRecorded):
            self._of(event.record.delivery.task_id)(event)
        elif isinstance(event, events.AttemptEnded):
            self._of(event.delivery.task_id)(event)

    def _of(self, task_id: str) -> Heard:
        with self._lock:
            return self._heard.setdefault(task_id, Heard())


def fetched(found: Found, past: Past, store: Any, directory: Path, settings: Settings) -> Input:
    """The input of the attempt, its files below a directory that exists and is empty.

    Raises:
        NotReplayable: it does not fit the disk, or is gone.
        ServiceError: lakeFS did not answer.
        OSError: the disk refused.
    """
    from perago.replay.past import fetch_input

    return Input(found.attempt.params, fetch_input(store, past, directory, found.sees, settings.max_workspace_bytes))
