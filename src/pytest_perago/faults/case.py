"""One case of the kind `faults`: its first attempt, and further calls under other conditions or in other processes.

Run as a module it is one of these processes: it reads what to play from a file, and writes what it saw to another.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.authoring import Task
from perago.authoring.context import Current, hooks_of, with_hooks
from perago.driver import AttemptRecord, FunctionCaller, Limits, Raised, Returned
from perago.driver.function import left_files
from perago.ports import TaskStatus
from perago.taskdef.payload import InvalidResult, dump_result
from perago.testing.cases import InvalidCase, RunCase, read_tree
from perago.testing.failures import CaseFailed, Cause
from perago.testing.services import InMemoryServices, call_and_note
from perago.testing.tree_files import fast_directory, write_tree
from perago.workspace.scan import open_file, scan_tree
from pytest_perago.confinement import TimeLimitExceeded, Watch, formatted_stack, leaving_no_process
from pytest_perago.faults.conditions import AuthorCode, Conditions, Threads, under
from pytest_perago.faults.interruptions import Audit, Moments, silenced
from pytest_perago.observation import Memory, Seen

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


SEEDS = (1, 2, 3, 4, 5)
"""A set of two texts has the same order under all of them once in 16 times, one of three once in 1,296."""


def play_elsewhere(matrix: Matrix) -> list[Seen]:
    """What the call leaves in a process for each seed.

    Raises:
        pytest.skip.Exception: the task cannot be imported there, or does not end in time.
    """
    given = matrix.given
    job = {
        "path": sys.path,
        "module": matrix.task.module,
        "params": given.params.model_dump(mode="json", by_alias=True, round_trip=True),
        "current": given.current,
        "files": given.files,
        "times": given.times,
        "conditions": matrix.conditions,
        "seconds": matrix.watch.seconds,
    }
    with tempfile.TemporaryDirectory(prefix="perago-elsewhere-") as scratch:
        question = Path(scratch, "question")
        question.write_bytes(pickle.dumps(job))
        running = [_start(seed, question, Path(scratch, f"answer-{seed}")) for seed in SEEDS]
        deadline = time.monotonic() + matrix.watch.seconds
        try:
            for process in running:
                process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pytest.skip("the case did not end in another process")
        finally:
            for process in running:
                process.kill()
                process.wait()
        return [_answer(Path(scratch, f"answer-{seed}")) for seed in SEEDS]


def _start(seed: int, question: Path, answer: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-c",
        "from pytest_perago.faults.case import main; main()",
        str(question),
        str(answer),
    ]
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _answer(file: Path) -> Seen:
    try:
        found: Seen | str = pickle.loads(file.read_bytes())  # noqa: S301 - written by a process of ours
    except (OSError, EOFError, pickle.UnpicklingError):
        found = "it ended without an answer"
    if isinstance(found, str):
        pytest.skip(f"the case cannot be played in another process: {found}")
    return found


def main() -> None:
    """Play, and answer with a `Seen`, or with the reason why that is not possible."""
    question, answer = map(Path, sys.argv[1:3])
    job = pickle.loads(question.read_bytes())  # noqa: S301 - written by the process that started this one
    sys.path[:] = job["path"]
    answer.write_bytes(pickle.dumps(_played(job)))


def _played(job: dict[str, Any]) -> Seen | str:
    from perago.driver import call_function
    from perago.taskdef import load_task
    from pytest_perago.confinement import LastResort, Watch
    from pytest_perago.faults.conditions import AuthorCode
    from pytest_perago.observation import Memory

    try:
        task = load_task(job["module"])
        params = task.params_model.model_validate(job["params"])
    except Exception as error:  # noqa: BLE001 - the author's code may raise anything
        return f"{type(error).__name__}: {error}"
    given = Given(params, job["current"], job["files"], job["times"])
    watch = Watch(job["seconds"], LastResort(enabled=False))
    player = Player(task, AuthorCode(task), Memory(task.module), call_function)
    with watch:
        seen = player.play(given, watch, job["conditions"]).seen
    return seen.problem or seen


NOT_PLAYED = "the case does not complete: its `run` test says why"


class Matrix:
    """See the module. Made once for a case in a session; `watch` is that of the test that runs now."""

    def __init__(self, task: Task, case: RunCase) -> None:
        self.task = task
        self.case = case
        self.watch: Watch
        self.memory = Memory(task.module)
        self.author = AuthorCode(task)
        self.conditions = Conditions()
        self.given: Given
        """What the attempt gave to the function."""
        self.published: Seen | None = None
        """What it published and reported; None if it did not complete."""
        self._player = Player(task, self.author, self.memory, call_and_note)
        try:
            self.tree = read_tree(case.tree)
        except InvalidCase as error:
            raise CaseFailed(Cause.MISTAKE, f"case {case.label!r}: {error}") from None

    @cached_property
    def base(self) -> Played:
        """What the function does in a first, real attempt. Where the author's code does not bear a clock that stands in
        for the real one, it runs on that.

        Raises:
            pytest.skip.Exception: the attempt does not complete.
        """
        played = self._attempt()
        if played is None or played.seen.problem:
            self.conditions = replace(self.conditions, pinned=False)
            played = self._attempt()
        if played is None or not self.published:
            pytest.skip(NOT_PLAYED)
        if not played.threads.ordered:
            self.conditions = replace(self.conditions, ordered=False)
        return played

    def _attempt(self) -> Played | None:
        """One attempt; None if the function is not called."""
        found: list[Played] = []
        troubles: list[Exception] = []

        def call(_: Task, workspace: Path | None, params: BaseModel, current: Current) -> Returned | Raised:
            self.given = Given.of(workspace, params, current)
            try:
                found.append(self.call(workspace, params, current, Moments(self.author)))
            except Exception as trouble:  # it is ours, and no failure of the attempt
                troubles.append(trouble)
                raise
            return found[-1].ended

        with InMemoryServices(call=call) as services:
            services.start(self.task, self.case.params, ref=self.seed(services))
            record = services.run_delivery(self.task, services.take(self.task))
            self.published = published(self.task, services, record)
        if troubles:
            raise troubles[0]
        return found[0] if found else None

    @cached_property
    def again(self) -> Played:
        """The second call, under the same conditions."""
        return self.base and self.play()  # the first call decides on the conditions

    def play(self, conditions: Conditions | None = None, *, given: Given | None = None, **more: Any) -> Played:
        """Call the function once more; see `Player.play`."""
        return self._player.play(given or self.given, self.watch, conditions or self.conditions, **more)

    def call(self, workspace: Path | None, params: BaseModel, current: Current, moments: Moments | None) -> Played:
        """Call the function in an attempt of the caller; see `Player.call`."""
        self.memory.restore()
        return self._player.call(workspace, params, current, self.watch, self.conditions, moments)

    @contextmanager
    def tidying(self) -> Iterator[None]:
        """Around a call that is interrupted: what it leaves outside of its attempt is removed, as it would fail
        whatever runs next. What was there before stays."""
        outside = self.base.audit.outside
        before = {path for path in outside if path.exists()}
        try:
            yield
        finally:
            for path in outside:
                if path not in before and path.is_file() and not path.is_symlink():
                    path.unlink()

    def seed(self, services: InMemoryServices) -> str | None:
        """Commit the tree of the case, and the publish fence; returns the input ref, None for a task without a
        workspace."""
        if self.task.workspace is None:
            return None
        prefix = self.task.workspace.key_prefix
        files = {prefix + path: content for path, content in self.tree.items()}
        return services.seed({FENCE_PATH: FENCE_TEXT, **files})

    def failed(self, summary: str, *facts: tuple[str, str]) -> CaseFailed:
        """A failure of the author's function."""
        return CaseFailed(
            Cause.MISTAKE,
            f"case {self.case.label!r}: {summary}",
            facts=[(label, text) for label, text in facts if text],
            tree=self.tree if self.task.workspace else None,
        )

    def run(self, check: Callable[[Matrix], None], watch: Watch) -> None:
        """Run one check within its time limit.

        Raises:
            CaseFailed: the function does not bear what was done, or takes too long.
        """
        self.watch = watch
        try:
            with watch:
                check(self)
        except TimeLimitExceeded:
            stack = [formatted_stack(watch.stuck.stack)] if watch.stuck else ()
            raise CaseFailed(
                Cause.MISTAKE,
                f"case {self.case.label!r} did not end within {watch.seconds:g} s (perago_run_timeout)",
                details=stack,
            ) from None


def published(task: Task, services: InMemoryServices, record: AttemptRecord) -> Seen | None:
    """What is published and reported, without the ids that say which attempt it was; None if it did not complete."""
    if record.report is None or record.report.status is not TaskStatus.COMPLETED:
        return None
    delivery = record.delivery
    ids = delivery.task_id.encode(), delivery.workflow_id.encode()
    files = {} if task.workspace is None else services.tree()
    result = json.loads(_without(json.dumps(record.report.output["result"]).encode(), ids))
    return Seen(result, {key: _without(content, ids) for key, content in files.items()})


def _without(content: bytes, ids: tuple[bytes, ...]) -> bytes:
    for number, each in enumerate(ids):
        content = content.replace(each, b"<id %d>" % number)
    return content
