"""Calls a task function, in an attempt or on a tree of its own, and sees what it leaves."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from perago.authoring import Task
from perago.authoring.context import Current, hooks_of, with_hooks
from perago.driver import FunctionCaller, Limits, Raised, Returned
from perago.driver.scratch import left_files
from perago.taskdef.payload import InvalidResult, dump_result
from perago.testing.building import fast_directory, write_tree
from perago.workspace.descent import open_file
from perago.workspace.scan import scan_tree
from pytest_perago.confinement import leaving_no_process
from pytest_perago.faults.audit import Audit
from pytest_perago.faults.author import AuthorCode
from pytest_perago.faults.conditions import Conditions, under
from pytest_perago.faults.moments import Moments, silenced
from pytest_perago.faults.order import Threads
from pytest_perago.memory import Memory
from pytest_perago.seen import Seen
from pytest_perago.watch import Watch

LONGEST_JOIN = 2.0
"""Seconds that the threads of an interrupted function get to end."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the function gets: `files` None for a task without a workspace; `times` are those of the files."""

    params: BaseModel
    current: Current
    files: Mapping[str, bytes] | None
    times: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, workspace: Path | None, params: BaseModel, current: Current) -> Given:
        """What an attempt is about to give."""
        plain = with_hooks(current, log=_ignore, progress=_ignore, measure=_ignore, is_cancelled=bool)
        if workspace is None:
            return cls(params.model_copy(deep=True), plain, None)
        times = {path: file.mtime_ns for path, file in scan_tree(workspace).files.items()}
        return cls(params.model_copy(deep=True), plain, read_files(workspace), times)


@dataclass(slots=True)
class Played:
    """One call. `seconds` is how long it took."""

    ended: Returned | Raised
    seen: Seen
    audit: Audit
    moments: Moments
    threads: Threads
    workspace: Path | None
    seconds: float
    looked: int
    """How often it asked whether it was cancelled, after it was."""
    processes: list[str]
    """Command lines of processes that it left running."""
    in_current: tuple[str, ...]
    """Files that it left in its current directory and that its task does not allow."""
    in_temporary: tuple[str, ...]
    """Files that it left in its temporary directory."""
    beside: tuple[Path, ...]
    """Files that it has written outside of its attempt, and that are there."""
    used: frozenset[str]
    """What it has asked for: `time`, `random`, `listing`."""


class Player:
    """Plays one case.

    Args:
        task: whose function it is.
        author: its code.
        memory: what its modules remembered before the first call.
        call: how it is called.
    """

    def __init__(self, task: Task, author: AuthorCode, memory: Memory, call: FunctionCaller) -> None:
        self._task = task
        self._author = author
        self._memory = memory
        self._call = call

    def play(
        self,
        given: Given,
        watch: Watch,
        conditions: Conditions,
        *,
        moments: Moments | None = None,
        full_from: int | None = None,
        forget: bool = True,
        look: Callable[[Path | None], object] = lambda _: None,
    ) -> Played:
        """Call the function on a tree of its own.

        Args:
            given: what it gets.
            watch: the time limit.
            conditions: under which it runs.
            moments: what happens to it; None: nothing.
            full_from: as for `Audit`.
            forget: whether its modules remember nothing of earlier calls.
            look: gets the workspace after the call, before it is removed.
        """
        if forget:
            self._memory.restore()
        root = Path(tempfile.mkdtemp(prefix="perago-play-", dir=fast_directory()))
        try:
            scratch = root / "cwd", root / "tmp"
            for directory in scratch:
                directory.mkdir()
            workspace = None if given.files is None else _written(root / "workspace", given)
            current = with_hooks(given.current, scratch=scratch)
            played = self.call(
                workspace, given.params.model_copy(deep=True), current, watch, conditions, moments, full_from
            )
            look(workspace)
            return played
        finally:
            shutil.rmtree(root, ignore_errors=True)

    def call(
        self,
        workspace: Path | None,
        params: BaseModel,
        current: Current,
        watch: Watch,
        conditions: Conditions,
        moments: Moments | None = None,
        full_from: int | None = None,
    ) -> Played:
        """Call the function on this workspace, of an attempt for example; otherwise as `play`."""
        scratch = hooks_of(current).scratch or ()
        happening = moments or Moments(self._author, counts=False)
        audit = Audit([workspace, *scratch], full_from=full_from, moment=lambda: len(happening.places))
        used: set[str] = set()
        looked = 0

        def is_cancelled() -> bool:
            nonlocal looked
            looked += happening.met is not None
            return happening.met is not None

        def function(**given: Any) -> Any:
            with audit, happening:  # around nothing but the author's code
                return self._task.function(**given)

        with ExitStack() as stack:
            processes = stack.enter_context(leaving_no_process())
            stack.enter_context(watch.code_of_author())
            happening.dropped = stack.enter_context(silenced())
            threads = stack.enter_context(under(conditions, self._author, used))
            start = time.perf_counter()
            watched = replace(self._task, function=function)
            try:
                ended = self._call(watched, workspace, params, with_hooks(current, is_cancelled=is_cancelled))
            finally:
                if happening.is_planned:  # what the function has left open is to go while nothing is told of it
                    gc.collect(1)
            seconds = time.perf_counter() - start
            if happening.is_planned:
                threads.join(LONGEST_JOIN)
        in_current = left_files(scratch[0], self._task) if scratch else ()
        beside = tuple(path for path in audit.outside if path.is_file())
        in_temporary = tuple(scan_tree(scratch[1].resolve()).files) if scratch else ()
        seen = see(self._task, ended, workspace)
        return Played(
            ended,
            seen,
            audit,
            happening,
            threads,
            workspace,
            seconds,
            looked,
            processes,
            in_current,
            in_temporary,
            beside,
            frozenset(used),
        )


def see(task: Task, ended: Returned | Raised, workspace: Path | None) -> Seen:
    """What the function left: its result as JSON, and the regular files of its workspace."""
    result: Any = None
    problem = ""
    if isinstance(ended, Raised):
        problem = ended.message
    else:
        try:
            result = dump_result(task, ended.value, Limits().max_result_bytes)
        except InvalidResult as error:
            problem = f"Invalid result: {error}"
    return Seen(result, {} if workspace is None else read_files(workspace), problem)


def read_files(root: Path) -> dict[str, bytes]:
    """The regular files below a directory; no link is followed."""
    found = {}
    for path in scan_tree(root).files:
        with os.fdopen(open_file(root, path), "rb") as file:
            found[path] = file.read()
    return found


def _written(root: Path, given: Given) -> Path:
    root.mkdir()
    files = given.files or {}
    write_tree(root, files)
    for path in files:
        moment = given.times.get(path)
        if moment is not None:
            os.utime(root / path, ns=(moment, moment))
    return root


def _ignore(*_: object) -> None:
    pass
