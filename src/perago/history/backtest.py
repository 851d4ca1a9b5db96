"""Run many past attempts again, several at a time, and judge each. A file keeps the verdicts."""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perago.atomic_file import replace_file
from perago.history.attempts import NotReplayable, differences_to, find_attempt
from perago.history.replay import Replayable, SharedWorker, scratch_directory
from perago.processes import end_if_told

if TYPE_CHECKING:
    from perago.configuration import Servers
    from perago.probe import TaskSummary
    from perago.settings import Settings

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
    found: Counter[tuple[str, str]] = Counter()
    for verdict in verdicts:
        for path, columns in verdict.files.items():
            found.update((path, column) for column in (columns or ("",)))
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [(path, column, number) for (path, column), number in ordered]


def summary(task_name: str, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return the result of a backtest. It is good if all attempts that could be read are the same, and there is one."""
    counts = {kind.value: sum(one.kind is kind for one in verdicts) for kind in Kind}
    readable = len(verdicts) - counts[Kind.UNREADABLE]
    return {
        "task": task_name,
        "good": readable > 0 and counts[Kind.SAME] == readable,
        **counts,
        "slower": sum(one.is_slower for one in verdicts),
        "by_file": [
            {"path": path, "column": column or None, "attempts": number}
            for path, column, number in by_file_and_column(verdicts)
        ],
        "attempts": [one.as_json() for one in verdicts],
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
        found = self._verdicts.get(task_id)
        return None if found is None or found.kind is Kind.UNREADABLE else found

    def keep(self, verdict: Verdict) -> None:
        """Add a verdict, and write the file.

        Raises:
            OSError: the file cannot be written.
        """
        self._verdicts[verdict.task_id] = verdict
        if self._path is not None:
            document = {**self._identity, "verdicts": [one.as_json() for one in self._verdicts.values()]}
            replace_file(self._path, (json.dumps(document, indent=1) + "\n").encode())

    def _read(self, path: Path) -> None:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            verdicts = [verdict_from(one) for one in document["verdicts"]]
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


class Backtest:
    """One run of `perago backtest`.

    Args:
        servers: where the attempts are.
        settings: for roots and limits.
        module: the import path of the task module.
        task: its task.
        state: known verdicts, and the file for new ones.
        jobs: the number of attempts at the same time.
        hear: gets every verdict.
    """

    def __init__(
        self,
        servers: Servers,
        settings: Settings,
        module: str,
        task: TaskSummary,
        state: State,
        jobs: int,
        hear: Callable[[Verdict], None],
    ) -> None:
        self._servers = servers
        self._settings = settings
        self._module = module
        self._task = task
        self._state = state
        self._jobs = jobs
        self._hear = hear
        self._second_runs = threading.Semaphore(_SECOND_RUNS)

    def run(self, task_ids: Sequence[str]) -> list[Verdict]:
        """Return the verdict of each attempt, in the order of the ids.

        Raises:
            Failure: a worker could not be started.
            ServiceError: a server did not answer.
            OSError: the disk refused.
        """
        verdicts: dict[str, Verdict] = {}
        for task_id in task_ids:
            known = self._state.known(task_id)
            if known is not None:
                verdicts[task_id] = known
                self._hear(known)
        left = [task_id for task_id in task_ids if task_id not in verdicts]
        if left:
            _ = self._servers.workflows, self._task.workspace and self._servers.store  # opened before there are threads
            worker = SharedWorker(self._settings, self._module, self._task, min(self._jobs, len(left)))
            with scratch_directory(self._settings) as scratch, worker:
                for verdict in self._judged(left, worker, scratch):
                    verdicts[verdict.task_id] = verdict
                    self._state.keep(verdict)
                    self._hear(verdict)
        return [verdicts[task_id] for task_id in task_ids]

    def _judged(self, task_ids: Sequence[str], worker: SharedWorker, scratch: Path) -> Iterable[Verdict]:
        with ThreadPoolExecutor(self._jobs) as pool:
            futures = [pool.submit(self._judge, task_id, worker, scratch) for task_id in task_ids]
            try:
                for future in as_completed(futures):
                    end_if_told()
                    yield future.result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _judge(self, task_id: str, worker: SharedWorker, scratch: Path) -> Verdict:
        end_if_told()
        workflow_id, started = "", 0
        try:
            attempt = find_attempt(self._servers.workflows, task_id)
            found = Replayable.matched(attempt, self._module, self._task)
            workflow_id, started = attempt.workflow_id, attempt.started
            with tempfile.TemporaryDirectory(dir=scratch) as name:
                return self._compared(found, worker, Path(name))
        except NotReplayable as error:
            return Verdict(task_id, workflow_id, started, Kind.UNREADABLE, summary=(error.message,))

    def _compared(self, found: Replayable, worker: SharedWorker, directory: Path) -> Verdict:
        from perago.testing.differences import differences

        attempt, servers = found.attempt, self._servers
        past = found.look_up(servers)
        for name in ("input", "now", "again"):
            (directory / name).mkdir()
        given = found.input(past, servers, directory / "input", self._settings)
        ran = worker.run(found, given, directory / "now")
        differing = differences_to(past, ran.result, found.store(servers), given.files)
        kind, deterministic = Kind.SAME, True
        if differing.ending:
            kind = Kind.FAILED
        elif differing:
            kind = Kind.DIFFERENT
            if self._second_runs.acquire(blocking=False):
                again = worker.run(found, given, directory / "again")
                deterministic = not differences(ran.result, again.result, given.files).summary
        return Verdict(
            attempt.task_id,
            attempt.workflow_id,
            attempt.started,
            kind,
            attempt.seconds,
            round(ran.seconds, 3),
            differing.summary,
            {file.path: file.columns for file in differing.files},
            deterministic,
        )
