"""Run the task of today on the input of a past attempt. Nothing is published."""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from perago.history.attempts import NotReplayable, Past, PastAttempt, fetch_input, look_up, result_of
from perago.history.running import Debugging, plan_for, run_attempt, services_of, write_tree
from perago.processes import end_if_told
from perago.text import one_line
from perago.worker import events
from perago.workspace.changes import Changes
from perago.workspace.keys import View

if TYPE_CHECKING:
    from perago.adapters.lakefs import LakeFSStore
    from perago.configuration import Servers
    from perago.driver import AttemptRecord
    from perago.probe import TaskSummary
    from perago.settings import Settings
    from perago.testing.differences import AttemptResult
    from perago.worker.events import Listener


@dataclass(frozen=True, slots=True)
class Replayable:
    """A past attempt, and today's task of the same name."""

    attempt: PastAttempt
    module: str
    task: TaskSummary

    @staticmethod
    def matched(attempt: PastAttempt, module: str, task: TaskSummary) -> Replayable:
        """Return the attempt with its task.

        Raises:
            NotReplayable: it is an attempt of another task, or only one of them has a workspace.
        """
        if task.name != attempt.task_name:
            raise NotReplayable(f"{module} declares {task.name}, but the attempt is one of {attempt.task_name}.")
        if (task.workspace is None) != (attempt.workspace is None):
            then, now = ("no ", "a ") if attempt.workspace is None else ("a ", "no ")
            raise NotReplayable(f"task {task.name} had {then}workspace then, and has {now}workspace now")
        return Replayable(attempt, module, task)

    def store(self, servers: Servers) -> LakeFSStore | None:
        """Return the lakeFS; None for a task without a workspace."""
        return None if self.task.workspace is None else servers.store

    def look_up(self, servers: Servers) -> Past:
        """Return the input and the publication of the attempt on lakeFS.

        Raises:
            NotReplayable: lakeFS no longer has it.
            ServiceError: lakeFS did not answer.
        """
        return look_up(self.store(servers), self.attempt, self.task.key_prefix)

    def sees(self, path: str) -> bool:
        """Whether a file is part of the task's view of its workspace."""
        return View(self.task.include, self.task.exclude).sees(path)

    def input(self, past: Past, servers: Servers, directory: Path, settings: Settings) -> Input:
        """Fetch the input of the attempt, with its files below a directory that exists and is empty.

        Raises:
            NotReplayable: it does not fit the disk, or no longer exists.
            ServiceError: lakeFS did not answer.
            OSError: the disk refused.
        """
        files = fetch_input(self.store(servers), past, directory, self.sees, settings.max_workspace_bytes)
        return Input(self.attempt.params, files)

    def breaking_changes(self) -> list[str]:
        """Return the params that today's TaskDef refuses and the earlier one accepted, a line each."""
        from perago.taskdef.compatibility import Impact, classify

        if self.attempt.definition is None:
            return []
        return [
            one_line(f"{change.pointer}: {change.reason}")
            for change in classify(self.attempt.definition, json.loads(self.task.definition))
            if change.impact is Impact.BREAKING
            and change.pointer.startswith(("/inputSchema/data", "/outputSchema/data"))
        ]


@dataclass(frozen=True, slots=True)
class Input:
    """The input of the attempt of today. `files` are by their paths in the workspace."""

    params: Mapping[str, Any]
    files: Mapping[str, Path]

    def seed(self, prefix: str) -> dict[str, str | bytes | Path | None]:
        """Return the files by their keys."""
        return {prefix + path: file for path, file in self.files.items()}


@dataclass(frozen=True, slots=True)
class Ran:
    """Today's attempt, and its duration in seconds. `commit` is its publication."""

    result: AttemptResult
    row: Mapping[str, Any]
    seconds: float
    commit: str | None = None


@contextlib.contextmanager
def scratch_directory(settings: Settings) -> Iterator[Path]:
    """Make a directory next to those of attempts, on the same disk, and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix=".perago-replay-", dir=settings.workspace_root) as name:
        yield Path(name)


class Heard:
    """A listener that keeps the record of an attempt, and passes on all events."""

    def __init__(self, listener: Listener | None = None) -> None:
        self._listener = listener
        self.record: AttemptRecord | None = None
        self.seconds: float = 0.0
        """The duration of the attempt, without the start of its worker."""

    @property
    def changes(self) -> Changes:
        """The changes of the workspace by the function; empty if its process died."""
        return self.record.changes if self.record is not None else Changes()

    def __call__(self, event: events.Event) -> None:
        """Record the event, and pass it on."""
        if isinstance(event, events.AttemptRecorded):
            self.record = events.joined(self.record, event.record)
        elif isinstance(event, events.AttemptEnded):
            self.seconds = event.seconds
        if self._listener is not None:
            self._listener(event)


def run_again(
    found: Replayable,
    given: Input,
    settings: Settings,
    directory: Path,
    listener: Listener | None = None,
    debugging: Debugging | None = None,
    output: Path | None = None,
) -> Ran:
    """Run one attempt on services in memory.

    Args:
        found: the task.
        given: its params and input files.
        settings: give roots, logs and limits.
        directory: an existing, empty directory for the changed files.
        listener: hears the events of the attempt.
        debugging: how the function runs in this process; None: it runs in a worker process.
        output: a new directory for the published tree, if there is one.

    Raises:
        Failure: the worker could not be started, or `output` could not be written.
        OSError: the disk refused.
    """
    from perago.local import BRANCH, REPOSITORY

    heard, task = Heard(listener), found.task
    with services_of(settings, heard, debugging) as services:
        ref = None
        if task.workspace is not None:
            files = given.seed(task.key_prefix)
            ref = services.lakefs.seed(REPOSITORY, BRANCH, files, message="the input of a past attempt").id
        row = run_attempt(services, found.module, task, settings, given.params, ref, heard)
        result = result_of(services.lakefs, row, heard.changes, task.key_prefix, directory)
        block = row.get("outputData", {}).get("workspace")
        commit = block["ref"] if block else None
        if output is not None and commit is not None:
            write_tree(services.lakefs, commit, task.key_prefix, output)
    return Ran(result, row, heard.seconds, commit)


class SharedWorker:
    """One worker for many attempts, several at a time. Use it as a context manager; `run` may be called by threads.

    Args:
        settings: give roots, logs and limits.
        module: the import path of the task module.
        task: its task.
        jobs: the number of concurrent attempts.
    """

    def __init__(self, settings: Settings, module: str, task: TaskSummary, jobs: int) -> None:
        from perago.embedded.services import EmbeddedServices

        self._services = EmbeddedServices.for_workers()
        self._plan = partial(plan_for, module, task, settings)
        self._definition = json.loads(task.definition)
        self._jobs = jobs
        self._heard: dict[str, Heard] = {}
        self._lock = threading.Lock()
        self._repositories = itertools.count(1)
        self._open = contextlib.ExitStack()

    def __enter__(self) -> SharedWorker:
        from perago.local import LocalTask, PersistentWorker

        self._open.enter_context(self._services)
        only = LocalTask(replace(self._plan(self._services), slots=self._jobs), self._definition)
        self._worker = self._open.enter_context(PersistentWorker(self._services, only, self._hear))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, traceback)

    def run(self, found: Replayable, given: Input, directory: Path) -> Ran:
        """Run one attempt. The changed files go to an existing, empty directory.

        Raises:
            RunFailed: the worker ended early.
            OSError: the disk refused.
        """
        from perago.local import BRANCH

        repository, prefix = f"attempt-{next(self._repositories)}", found.task.key_prefix
        payload: dict[str, Any] = {"params": given.params}
        lakefs = self._services.lakefs
        if found.task.workspace is not None:
            ref = lakefs.seed(repository, BRANCH, given.seed(prefix), message="the input of a past attempt").id
            payload["workspace"] = {"repository": repository, "branch": BRANCH, "ref_type": "commit", "ref": ref}
        row = self._worker.run(payload, end_if_told)
        with self._lock:
            heard = self._heard.pop(row["taskId"], Heard())
        result = result_of(lakefs, row, heard.changes, prefix, directory)
        if found.task.workspace is not None:
            lakefs.server.delete_repository(repository)
        return Ran(result, row, heard.seconds)

    def _hear(self, event: events.Event) -> None:
        if isinstance(event, events.AttemptRecorded):
            task_id = event.record.delivery.task_id
        elif isinstance(event, events.AttemptEnded):
            task_id = event.delivery.task_id
        else:
            return
        with self._lock:
            heard = self._heard.setdefault(task_id, Heard())
        heard(event)
