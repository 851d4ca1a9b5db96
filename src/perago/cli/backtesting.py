"""Running many attempts of the past again, several at a time."""

from __future__ import annotations

import itertools
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from perago.cli.past_attempts import Found, Servers, matched, scratch_directory
from perago.cli.replays import How, differs_from_itself, fetched, run_again
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
        self._numbers = itertools.count(1)
        self._second_runs = threading.Semaphore(_SECOND_RUNS)
        self._stopped = threading.Event()

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
        with scratch_directory(self._settings) as scratch, ThreadPoolExecutor(self._jobs) as pool:
            futures = [pool.submit(self._judge, one, scratch) for one in task_ids if one not in verdicts]
            try:
                self._collect(futures, verdicts)
            finally:
                self._stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)
        return [verdicts[task_id] for task_id in task_ids]

    def _collect(self, futures: list[Future[Verdict]], verdicts: dict[str, Verdict]) -> None:
        for future in as_completed(futures):
            end_if_told()
            verdict = future.result()
            verdicts[verdict.task_id] = verdict
            self._state.keep(verdict)
            self._view.heard(verdict)

    def _judge(self, task_id: str, scratch: Path) -> Verdict:
        end_if_told()
        try:
            attempt = find_attempt(self._servers.conductor, task_id)
            found = matched(attempt, self._module, self._task, self._files)
        except NotReplayable as error:
            return Verdict(task_id, "", 0, Kind.UNREADABLE, summary=(error.message,))
        with tempfile.TemporaryDirectory(dir=scratch) as name:
            try:
                return self._compared(found, Path(name))
            except NotReplayable as error:
                return Verdict(task_id, attempt.workflow_id, attempt.started, Kind.UNREADABLE, summary=(error.message,))

    def _compared(self, found: Found, directory: Path) -> Verdict:
        attempt, store = found.attempt, self._servers.store_for(found.task)
        past = look_up(store, attempt, found.prefix)
        for name in ("input", "now", "again"):
            (directory / name).mkdir()
        given = fetched(found, past, store, directory / "input", self._settings)
        how = How(self._settings, number=next(self._numbers))
        ran = run_again(found, given, how, directory / "now")
        differing = differences_to(past, ran.remains, store, given.files)
        by_itself: tuple[str, ...] = ()
        if differing and not differing.ending and self._second_runs.acquire(blocking=False):
            by_itself = differs_from_itself(found, given, how, ran.remains, directory / "again")
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
