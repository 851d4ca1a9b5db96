"""Run the task of today on the input of a past attempt, or of many for a backtest. Nothing is published."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perago import __version__
from perago.atomic_file import replace_file
from perago.conductor_json import published_commit
from perago.failure import Failure
from perago.history.attempts import NotReplayable, Past, PastAttempt, differences_to, find_attempt, look_up, result_of
from perago.history.running import Debugging, plan_for, run_locally, services_of, write_tree
from perago.processes import raise_pending_signal
from perago.taskdef.payload import workspace_block
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
    from perago.trees.differences import AttemptResult
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
        limit = settings.max_workspace_bytes
        files = past.fetch(self.store(servers), past.input_ref, directory, self.sees, workspace_limit=limit)
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
class ReplayResult:
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


@dataclass(slots=True)
class AttemptRecorder:
    """A listener that keeps the record of an attempt, and passes on all events."""

    listener: Listener | None = None
    record: AttemptRecord | None = None
    seconds: float = 0.0
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
        if self.listener is not None:
            self.listener(event)


def replay_attempt(
    replayable: Replayable,
    task_input: Input,
    settings: Settings,
    directory: Path,
    listener: Listener | None = None,
    debugging: Debugging | None = None,
    output: Path | None = None,
) -> ReplayResult:
    """Run one attempt on services in memory.

    Args:
        replayable: the task.
        task_input: its params and input files.
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

    recorder, task = AttemptRecorder(listener), replayable.task
    with services_of(settings, recorder, debugging) as services:
        ref = None
        if task.workspace is not None:
            files = task_input.seed(task.key_prefix)
            ref = services.lakefs.seed(REPOSITORY, BRANCH, files, message="the input of a past attempt").id
        row = run_locally(services, replayable.module, task, settings, task_input.params, ref, recorder)
        result = result_of(services.lakefs, row, recorder.changes, task.key_prefix, directory)
        commit = published_commit(row)
        if output is not None and commit is not None:
            write_tree(services.lakefs, commit, task.key_prefix, output)
    return ReplayResult(result, row, recorder.seconds, commit)


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
        self._recorders: dict[str, AttemptRecorder] = {}
        self._lock = threading.Lock()
        self._repositories = itertools.count(1)
        self._open = contextlib.ExitStack()

    def __enter__(self) -> SharedWorker:
        from perago.local import LocalTask, PersistentWorker

        self._open.enter_context(self._services)
        only = LocalTask(replace(self._plan(self._services), slots=self._jobs), self._definition)
        self._worker = self._open.enter_context(PersistentWorker(self._services, only, self._hear))
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def run(self, replayable: Replayable, task_input: Input, directory: Path) -> ReplayResult:
        """Run one attempt. The changed files go to an existing, empty directory.

        Raises:
            RunFailed: the worker ended early.
            OSError: the disk refused.
        """
        from perago.local import BRANCH

        repository, prefix = f"attempt-{next(self._repositories)}", replayable.task.key_prefix
        payload: dict[str, Any] = {"params": task_input.params}
        lakefs = self._services.lakefs
        if replayable.task.workspace is not None:
            ref = lakefs.seed(repository, BRANCH, task_input.seed(prefix), message="the input of a past attempt").id
            payload["workspace"] = workspace_block(repository, BRANCH, ref)
        row = self._worker.run(payload, raise_pending_signal)
        with self._lock:
            recorder = self._recorders.pop(row["taskId"], AttemptRecorder())
        result = result_of(lakefs, row, recorder.changes, prefix, directory)
        if replayable.task.workspace is not None:
            lakefs.server.delete_repository(repository)
        return ReplayResult(result, row, recorder.seconds)

    def _hear(self, event: events.Event) -> None:
        if isinstance(event, events.AttemptRecorded):
            task_id = event.record.delivery.task_id
        elif isinstance(event, events.AttemptEnded):
            task_id = event.delivery.task_id
        else:
            return
        with self._lock:
            recorder = self._recorders.setdefault(task_id, AttemptRecorder())
        recorder(event)


# ------------------------------------------------------------------------------- backtests


_SECOND_RUNS = 3
"""Differing attempts that are run once more, to see whether the function is deterministic."""

_VERSION = 1
_MUCH_SLOWER = 2.0
_NOTICED = 1.0
"""Seconds that an attempt must take longer before it counts as slower."""


class Kind(StrEnum):
    """The result of an attempt with the code of today."""

    SAME = "same"
    DIFFERENT = "different"
    FAILED = "failed"
    """The attempt completed then, and fails today."""
    UNREADABLE = "unreadable"
    """The attempt cannot be run again, because its objects or its row no longer exist, or are too large."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One attempt. Times are seconds; `started` is milliseconds since the epoch."""

    task_id: str
    workflow_id: str
    started: int
    kind: Kind
    then_seconds: float | None = None
    now_seconds: float | None = None
    summary: tuple[str, ...] = ()
    """A line for each difference, or the reason."""
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The files that differ, each with its differing columns."""
    deterministic: bool = True

    @property
    def is_slower(self) -> bool:
        """Whether it took more than twice as long as then, and at least a second more."""
        if self.then_seconds is None or self.now_seconds is None:
            return False
        return self.now_seconds > max(self.then_seconds * _MUCH_SLOWER, self.then_seconds + _NOTICED)

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as JSON."""
        return {**asdict(self), "slower": self.is_slower}


def verdict_from(document: Mapping[str, Any]) -> Verdict:
    """Return the verdict that `as_json` has written.

    Raises:
        LookupError, TypeError, ValueError: it is not a verdict.
    """
    fields = {key: value for key, value in document.items() if key != "slower"}
    return Verdict(**{**fields, "kind": Kind(fields["kind"]), "summary": tuple(fields["summary"])})


def by_file_and_column(verdicts: Iterable[Verdict]) -> list[tuple[str, str, int]]:
    """Files and columns that differ, with the number of attempts, most first. The column is empty for a complete
    file."""
    attempts: Counter[tuple[str, str]] = Counter()
    for verdict in verdicts:
        for path, columns in verdict.files.items():
            attempts.update((path, column) for column in (columns or ("",)))
    ordered = sorted(attempts.items(), key=lambda item: (-item[1], item[0]))
    return [(path, column, number) for (path, column), number in ordered]


def summary(task_name: str, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return the result of a backtest. It is good if all attempts that could be read are the same, and there is one."""
    counts = {kind.value: sum(verdict.kind is kind for verdict in verdicts) for kind in Kind}
    readable = len(verdicts) - counts[Kind.UNREADABLE]
    return {
        "task": task_name,
        "good": readable > 0 and counts[Kind.SAME] == readable,
        **counts,
        "slower": sum(verdict.is_slower for verdict in verdicts),
        "by_file": [
            {"path": path, "column": column or None, "attempts": number}
            for path, column, number in by_file_and_column(verdicts)
        ],
        "attempts": [verdict.as_json() for verdict in verdicts],
    }


class State:
    """The verdicts of a backtest in a file. It holds for one task and one state of the code.

    Args:
        path: the file; None keeps nothing.
        task: the task's name.
        code: identifies the code, as `code_digest` gives it.
    """

    def __init__(self, path: Path | None, task: str, code: str) -> None:
        self._path = path
        self._identity = {"version": _VERSION, "task": task, "code": code}
        self._verdicts: dict[str, Verdict] = {}
        self.is_outdated: bool = False
        """Whether the file was from different code or another task, and is overwritten."""
        if path is not None and path.exists():
            self._read(path)

    def known(self, task_id: str) -> Verdict | None:
        """The verdict of an attempt, if there is one. Unreadable attempts are tried again."""
        verdict = self._verdicts.get(task_id)
        return None if verdict is None or verdict.kind is Kind.UNREADABLE else verdict

    def keep(self, verdict: Verdict) -> None:
        """Add a verdict, and write the file.

        Raises:
            OSError: the file cannot be written.
        """
        self._verdicts[verdict.task_id] = verdict
        if self._path is not None:
            written = {"perago.version": __version__, **self._identity}
            document = {**written, "verdicts": [known.as_json() for known in self._verdicts.values()]}
            replace_file(self._path, (json.dumps(document, indent=1) + "\n").encode())

    def _read(self, path: Path) -> None:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if (version := document["version"]) > _VERSION:
                writer = document.get("perago.version", "of a later release")
                what = f"{path} has format {version}, written by perago {writer}; perago {__version__} reads {_VERSION}"
                raise Failure(what, f"install perago {writer}, or give --resume another file")
            verdicts = [verdict_from(entry) for entry in document["verdicts"]]
            identity = {key: document[key] for key in self._identity}
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not a file of a backtest") from error
        if identity == self._identity:
            self._verdicts = {verdict.task_id: verdict for verdict in verdicts}
        else:
            self.is_outdated = True


def code_digest(files: Iterable[str], definition: str) -> str:
    """Return a digest of the code of a task: its source files and its TaskDef.

    Raises:
        OSError: a file cannot be read.
    """
    digest = hashlib.sha256(definition.encode())
    for file in sorted(files):
        digest.update(file.encode() + b"\0" + Path(file).read_bytes() + b"\0")
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Backtest:
    """One run of `perago backtest`."""

    servers: Servers
    settings: Settings
    module: str
    task: TaskSummary
    state: State
    """Known verdicts, and the file for new ones."""
    jobs: int
    """The number of attempts at the same time."""
    hear: Callable[[Verdict], None]
    """Gets every verdict."""
    _second_runs: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_SECOND_RUNS))

    def run(self, task_ids: Sequence[str]) -> list[Verdict]:
        """Return the verdict of each attempt, in the order of the ids.

        Raises:
            Failure: a worker could not be started.
            ServiceError: a server did not answer.
            OSError: the disk refused.
        """
        verdicts: dict[str, Verdict] = {}
        for task_id in task_ids:
            if (known := self.state.known(task_id)) is not None:
                verdicts[task_id] = known
                self.hear(known)
        left = [task_id for task_id in task_ids if task_id not in verdicts]
        if left:
            _ = self.servers.workflows, self.task.workspace and self.servers.store  # opened before there are threads
            worker = SharedWorker(self.settings, self.module, self.task, min(self.jobs, len(left)))
            with scratch_directory(self.settings) as scratch, worker:
                for verdict in self._judged(left, worker, scratch):
                    verdicts[verdict.task_id] = verdict
                    self.state.keep(verdict)
                    self.hear(verdict)
        return [verdicts[task_id] for task_id in task_ids]

    def _judged(self, task_ids: Sequence[str], worker: SharedWorker, scratch: Path) -> Iterable[Verdict]:
        with ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(self._judge, task_id, worker, scratch) for task_id in task_ids]
            try:
                for future in as_completed(futures):
                    raise_pending_signal()
                    yield future.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _judge(self, task_id: str, worker: SharedWorker, scratch: Path) -> Verdict:
        raise_pending_signal()
        workflow_id, started = "", 0
        try:
            attempt = find_attempt(self.servers.workflows, task_id)
            replayable = Replayable.matched(attempt, self.module, self.task)
            workflow_id, started = attempt.workflow_id, attempt.started
            with tempfile.TemporaryDirectory(dir=scratch) as name:
                return self._compared(replayable, worker, Path(name))
        except NotReplayable as error:
            return Verdict(task_id, workflow_id, started, Kind.UNREADABLE, summary=(error.message,))

    def _compared(self, replayable: Replayable, worker: SharedWorker, directory: Path) -> Verdict:
        from perago.trees.differences import differences

        attempt, servers = replayable.attempt, self.servers
        past = replayable.look_up(servers)
        for name in ("input", "now", "again"):
            (directory / name).mkdir()
        task_input = replayable.input(past, servers, directory / "input", self.settings)
        replayed = worker.run(replayable, task_input, directory / "now")
        differing = differences_to(past, replayed.result, replayable.store(servers), task_input.files)
        kind, deterministic = Kind.SAME, True
        if differing.ending:
            kind = Kind.FAILED
        elif differing:
            kind = Kind.DIFFERENT
            if self._second_runs.acquire(blocking=False):
                second_run = worker.run(replayable, task_input, directory / "again")
                deterministic = not differences(replayed.result, second_run.result, task_input.files).summary
        return Verdict(
            attempt.task_id,
            attempt.workflow_id,
            attempt.started,
            kind,
            attempt.seconds,
            round(replayed.seconds, 3),
            differing.summary,
            {file.path: file.columns for file in differing.files},
            deterministic,
        )
