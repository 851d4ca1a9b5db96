"""Running many attempts of the past again, several at a time."""

from __future__ import annotations

import functools
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from perago.cli.past_attempts import Found, Servers, matched, scratch_directory
from perago.cli.replays import SharedWorker, differs_from_itself, fetched
from perago.cli.signals import end_if_told
from perago.replay.attempts import NotReplayable, find_attempt
from perago.replay.past import differences_to, look_up
from perago.replay.verdicts import Kind, State, Verdict

if TYPE_CHECKING:
    from perago.cli.probe import TaskSummary
    from perago.cli.verdict_view import VerdictView
    from perago.settings import Settings
    from perago.testing.remains import Differences

_SECOND_RUNS = 3
"""Differing attempts that are run once more, to see whether the function is deterministic."""


class Backtest:
    """One run of `perago backtest`.

    Args:
        servers: where the attempts are.
        settings: give roots and limits.
        module: the import path of the task module.
        task: its task.
        files: its source files.
        state: what is known already, and where verdicts are kept.
        jobs: how many attempts run at a time.
        view: hears of every verdict.
    """

    def __init__(
        self,
        servers: Servers,
        settings: Settings,
        module: str,
        task: TaskSummary,
        files: tuple[str, ...],
        state: State,
        jobs: int,
        view: VerdictView,
    ) -> None:
        self._servers = servers
        self._settings = settings
        self._module = module
        self._task = task
        self._files = files
        self._state = state
        self._jobs = jobs
        self._view = view
        self._second_runs = threading.Semaphore(_SECOND_RUNS)

    def run(self, task_ids: Sequence[str]) -> list[Verdict]:
        """The verdict of each attempt, in the order of the ids.

        Raises:
            CommandError: a worker could not be started.
            ServiceError: a server did not answer.
            OSError: the disk refused.
        """
        verdicts: dict[str, Verdict] = {}
        for task_id in task_ids:
            known = self._state.known(task_id)
            if known is not None:
                verdicts[task_id] = known
                self._view.heard(known)
        open_servers(self._servers, self._task)
        left = [task_id for task_id in task_ids if task_id not in verdicts]
        if left:
            with scratch_directory(self._settings) as scratch, self._worker(len(left)) as worker:
                self._run(left, worker, scratch, verdicts)
        return [verdicts[task_id] for task_id in task_ids]

    def _worker(self, left: int) -> SharedWorker:
        return SharedWorker(self._settings, self._module, self._task, min(self._jobs, left))

    def _run(self, left: Sequence[str], worker: SharedWorker, scratch: Path, verdicts: dict[str, Verdict]) -> None:
        with ThreadPoolExecutor(self._jobs) as pool:
            futures = [pool.submit(self._judge, task_id, worker, scratch) for task_id in left]
            try:
                self._collect(futures, verdicts)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _collect(self, futures: list[Future[Verdict]], verdicts: dict[str, Verdict]) -> None:
        for future in as_completed(futures):
            end_if_told()
            verdict = future.result()
            verdicts[verdict.task_id] = verdict
            self._state.keep(verdict)
            self._view.heard(verdict)

    def _judge(self, task_id: str, worker: SharedWorker, scratch: Path) -> Verdict:
        end_if_told()
        try:
            attempt = find_attempt(self._servers.conductor, task_id)
            found = matched(attempt, self._module, self._task, self._files)
        except NotReplayable as error:
            return Verdict(task_id, "", 0, Kind.UNREADABLE, summary=(error.message,))
        with tempfile.TemporaryDirectory(dir=scratch) as name:
            try:
                return self._compared(found, worker, Path(name))
            except NotReplayable as error:
                return Verdict(task_id, attempt.workflow_id, attempt.started, Kind.UNREADABLE, summary=(error.message,))

    def _compared(self, found: Found, worker: SharedWorker, directory: Path) -> Verdict:
        attempt, store = found.attempt, self._servers.store_for(found.task)
        past = look_up(store, attempt, found.prefix)
        for name in ("input", "now", "again"):
            (directory / name).mkdir()
        given = fetched(found, past, store, directory / "input", self._settings)
        ran = worker.run(found, given, directory / "now")
        differing = differences_to(past, ran.remains, store, given.files)
        by_itself: tuple[str, ...] = ()
        if differing and not differing.ending and self._second_runs.acquire(blocking=False):
            again = functools.partial(worker.run, found, given, directory / "again")
            by_itself = differs_from_itself(ran.remains, given, again)
        return Verdict(
            attempt.task_id,
            attempt.workflow_id,
            attempt.started,
            _kind(differing),
            attempt.seconds,
            round(ran.seconds, 3),
            differing.summary,
            {file.path: file.columns for file in differing.files},
            not by_itself,
        )


def open_servers(servers: Servers, task: TaskSummary) -> None:
    """Connect before there are threads, which would do it twice."""
    _ = servers.conductor, servers.store_for(task)


def _kind(differing: Differences) -> Kind:
    if differing.ending:
        return Kind.FAILED
    return Kind.DIFFERENT if differing else Kind.SAME
