"""Observe the attempts of a case, and calls of its function under chosen conditions, in this process or in others.

Python hashes strings differently in each process, so the order of sets differs. `main` is the entry point of these
processes. It reads the call from one file, and writes the output to another.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from pydantic import BaseModel

from perago.attempt.publication import FENCE_PATH, FENCE_TEXT
from perago.authoring import Task
from perago.authoring.context import Current, hooks_of, with_hooks
from perago.driver import AttemptRecord, FunctionCaller, Limits, Raised, Returned, call_function
from perago.driver.function import left_files
from perago.guardrails.evaluation import Finding, Phase, check_tree, evaluate
from perago.ports import TaskStatus
from perago.taskdef import load_task
from perago.taskdef.payload import InvalidResult, dump_result
from perago.trees import build, fast_directory, write_tree
from perago.trees.cases import CaseFailed, Cause, InvalidCase, RunCase, read_tree
from perago.workspace.keys import View
from perago.workspace.scan import scan_tree
from pytest_perago.clock import REPLACED_LIBRARIES
from pytest_perago.conditions import Conditions, Interruption, silenced, under
from pytest_perago.confinement import LastResort, TimeLimitExceeded, Watch
from pytest_perago.machine import TIMES_OF_FILES
from pytest_perago.observation import Audit, Output, read_files
from pytest_perago.threads import Threads
from pytest_perago.user_code import Memory, UserCode, own_guardrails

if TYPE_CHECKING:
    from perago.testing.services import InMemoryServices

Verdicts: TypeAlias = Mapping[tuple[str, str], bool]
"""Whether a rule accepts a tree, by phase and rule."""

LONGEST_JOIN = 2.0
"""Seconds that the threads of an interrupted function get to end."""
SEEDS = (1, 2, 3, 4, 5)
"""The chance that all seeds give the same order is 1 in 16 for a set of two strings, 1 in 1,296 for three."""
NOT_COMPLETED = "the case does not complete: its `run` test says why"
_DAY = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class CallInput:
    """The input of the function. `files` is None for a task without a workspace. `times` has the times of the files."""

    params: BaseModel
    current: Current
    files: Mapping[str, bytes] | None
    times: Mapping[str, int] = field(default_factory=dict)
    raw: Mapping[str, Any] | None = None
    """The params as JSON, which are validated again for each call, because a default can depend on the time."""

    @classmethod
    def of(cls, workspace: Path | None, params: BaseModel, current: Current) -> CallInput:
        """Copy the input of an attempt."""
        plain = with_hooks(current, log=_ignore, progress=_ignore, measure=_ignore, is_cancelled=bool)
        if workspace is None:
            return cls(_copied(params), plain, None)
        times = {path: file.mtime_ns for path, file in scan_tree(workspace).files.items()}
        return cls(_copied(params), plain, read_files(workspace), times)

    def uploaded_later(self) -> CallInput:
        """Return the input with files that were uploaded a day later."""
        return replace(self, times={path: time + _DAY for path, time in self.times.items()})

    def write(self, root: Path) -> Path | None:
        """Write the files with their times to a new directory, and return it. Return None without a workspace."""
        if self.files is None:
            return None
        root.mkdir()
        write_tree(root, self.files)
        for path in self.files.keys() & self.times.keys():
            os.utime(root / path, ns=(self.times[path], self.times[path]))
        return root


@dataclass(slots=True)
class Call:
    """One call of the function, and its outcome. `seconds` is its duration."""

    ended: Returned | Raised
    output: Output
    audit: Audit
    interruption: Interruption
    threads: Threads
    workspace: Path | None
    seconds: float
    cancellation_checks: int
    """The number of times that it asked whether it was canceled, counted after its cancellation."""
    processes: list[str]
    """Command lines of processes that it left running."""
    running: list[str]
    """Names of threads that were running when it returned."""
    in_current: tuple[str, ...]
    """Files that it left in its current directory and that its task does not allow."""
    in_temporary: tuple[str, ...]
    """Files that it left in its temporary directory."""
    outside_files: tuple[Path, ...]
    """Files outside of its attempt that it has written and that still exist."""
    used: frozenset[str]
    """The sources of nondeterminism that it has used: `time`, `random`, `listing`."""
    params: BaseModel
    """Its params, before it changed them."""
    violated: tuple[Finding, ...] = ()
    """The violated `post` guardrails, and links and the like in its workspace, if these were asked for."""


class CaseAttempts:
    """The attempts of a declared case, each on its own services.

    Args:
        task: the task.
        case: the case.
        watch: the time limit of the current test.

    Raises:
        CaseFailed: the tree of the case cannot be read.
    """

    def __init__(self, task: Task, case: RunCase, watch: Watch) -> None:
        self.task = task
        self.case = case
        self.watch = watch
        try:
            self.tree: dict[str, str | bytes | None] = read_tree(case.tree)
        except InvalidCase as error:
            raise CaseFailed(Cause.MISTAKE, f"case {case.label!r}: {error}") from None

    @contextmanager
    def started(self, call: FunctionCaller, controls: Mapping[str, Any] | None = None) -> Iterator[InMemoryServices]:
        """Commit the tree of the case and the publish fence to new services, and start a workflow of the task.

        Args:
            call: calls the function.
            controls: replaces fields of the TaskDef.
        """
        from perago.testing.services import InMemoryServices  # the processes of `main` need no services

        ref = None
        with InMemoryServices(call=call) as services:
            if self.task.workspace is not None:
                prefix = self.task.workspace.key_prefix
                files = {prefix + path: content for path, content in self.tree.items()}
                ref = services.seed({FENCE_PATH: FENCE_TEXT, **files})
            services.start(self.task, self.case.params, ref=ref, controls=controls)
            yield services

    def committed(self, services: InMemoryServices) -> dict[str, bytes]:
        """Return the files on the branch; none for a task without a workspace."""
        return {} if self.task.workspace is None else services.tree()

    def published(self, services: InMemoryServices, record: AttemptRecord) -> Output | None:
        """Return the report and the branch after an attempt, or None if it did not complete."""
        if record.report is None or record.report.status is not TaskStatus.COMPLETED:
            return None
        return Output(record.report.output["result"], self.committed(services))

    def failed(
        self, summary: str, *facts: tuple[str, str], cause: Cause = Cause.MISTAKE, needs_others: bool = False
    ) -> CaseFailed:
        """Build a failure of the function. Facts without a text are left out."""
        shown, tree = filter(lambda fact: fact[1], facts), self.tree if self.task.workspace else None
        return CaseFailed(cause, f"case {self.case.label!r}: {summary}", *shown, tree=tree, needs_others=needs_others)


class FaultCase(CaseAttempts):
    """A case for all its fault tests. It is created once in a session.

    Args:
        task, case, watch: as for `CaseAttempts`.
        call: the way to call the function; None: `call_and_note`.
        memory: the values of its module before any call; None: the current values.
    """

    def __init__(
        self,
        task: Task,
        case: RunCase,
        watch: Watch,
        call: FunctionCaller | None = None,
        *,
        memory: Memory | None = None,
    ) -> None:
        super().__init__(task, case, watch)
        if call is None:
            from perago.testing.services import call_and_note

            call = call_and_note
        self.memory: Memory = memory or Memory(task.module)
        self.user_code: UserCode = UserCode(task)
        self.conditions: Conditions = Conditions()
        self.inputs: CallInput
        """The input of the function in the first attempt."""
        self.first_output: Output | None = None
        """The publication and the report of the first attempt; None if it did not complete."""
        self._does_not_complete = False
        self._used_by_rules: set[str] = set()
        self._call_function = call

    @cached_property
    def first(self) -> Call:
        """Return the call of the first attempt, which is a real one. If user code does not tolerate a fake
        clock, it runs on the real clock.

        Raises:
            pytest.skip.Exception: the attempt does not complete.
        """
        if self._does_not_complete:
            pytest.skip(NOT_COMPLETED)
        loaded = REPLACED_LIBRARIES & sys.modules.keys()
        call = self._first_attempt()
        user_code = UserCode(self.task)
        if loaded != REPLACED_LIBRARIES & sys.modules.keys() or user_code.files != self.user_code.files:
            self.user_code = user_code  # the function has imported them
            call = self._first_attempt()
        if call is None or call.output.problem:
            self.conditions = replace(self.conditions, pinned=False)
            call = self._first_attempt()
        if call is None or self.first_output is None:
            self._does_not_complete = True
            pytest.skip(NOT_COMPLETED)
        if not call.threads.ordered:
            self.conditions = replace(self.conditions, ordered=False)
        return call

    def _first_attempt(self) -> Call | None:
        """Run one attempt. Return None if the function is not called."""
        calls: list[Call] = []
        errors: list[Exception] = []

        def call(_: Task, workspace: Path | None, params: BaseModel, current: Current) -> Returned | Raised:
            raw = self.case.params
            self.inputs = replace(CallInput.of(workspace, params, current), raw=raw)
            self.memory.restore()
            try:
                calls.append(self.call(workspace, params, current, raw=raw, interruption=Interruption(self.user_code)))
            except Exception as error:  # it is ours, and no failure of the attempt
                errors.append(error)
                raise
            return calls[-1].ended

        try:
            with self.started(call) as services:
                record = services.run_delivery(self.task, services.take(self.task))
                self.first_output = self.published_without_ids(services, record)
        except TimeLimitExceeded:
            self._does_not_complete = True
            raise
        if errors:
            raise errors[0]
        return calls[0] if calls else None

    @cached_property
    def second(self) -> Call:
        """The second call, under the same conditions."""
        return self.first and self.call_again()  # the first call decides on the conditions

    def published_without_ids(self, services: InMemoryServices, record: AttemptRecord) -> Output | None:
        """Return the published and reported values, without the ids of the attempt."""
        output = self.published(services, record)
        return output and output.without(record.delivery.task_id, record.delivery.workflow_id)

    def call_again(
        self,
        conditions: Conditions | None = None,
        *,
        inputs: CallInput | None = None,
        interruption: Interruption | None = None,
        full_from: int | None = None,
        forget: bool = True,
        judged: bool = False,
    ) -> Call:
        """Call the function once more, on its own tree.

        Args:
            conditions: the conditions; None: those of the first call.
            inputs: the input; None: that of the first call.
            interruption: the interruption; None: none.
            full_from: as for `Audit`.
            forget: whether its modules forget earlier calls.
            judged: whether the `post` guardrails judge the workspace.
        """
        inputs = inputs or self.inputs
        if conditions is not None and TIMES_OF_FILES in conditions.machine:
            inputs = inputs.uploaded_later()
        if forget:
            self.memory.restore()
        top = tempfile.mkdtemp(prefix="perago-faults-", dir=fast_directory())
        root = Path(top, "attempt", "files")  # a path that leads out of the workspace still ends below `top`
        root.mkdir(parents=True)
        try:
            scratch = root / "cwd", root / "tmp"
            for directory in scratch:
                directory.mkdir()
            workspace = inputs.write(root / "workspace")
            current = with_hooks(inputs.current, scratch=scratch)
            call = self.call(
                workspace,
                _copied(inputs.params),
                current,
                raw=inputs.raw,
                conditions=conditions,
                interruption=interruption,
                full_from=full_from,
            )
            if judged and workspace is not None:
                call.violated = self._violations(workspace)
            return call
        finally:
            shutil.rmtree(top, ignore_errors=True)

    def call(
        self,
        workspace: Path | None,
        params: BaseModel,
        current: Current,
        *,
        raw: Mapping[str, Any] | None = None,
        conditions: Conditions | None = None,
        interruption: Interruption | None = None,
        full_from: int | None = None,
    ) -> Call:
        """Call the function on this workspace, for example of an attempt. `raw` is described at `CallInput`, other
        arguments at `call_again`."""
        scratch = hooks_of(current).scratch or ()
        interruption = interruption or Interruption(self.user_code, counts=False)
        audit = Audit([workspace, *scratch], full_from=full_from, position=lambda: len(interruption.calls))
        used: set[str] = set()
        cancellation_checks = 0
        running: list[str] = []
        validated: list[BaseModel] = [params]

        def is_cancelled() -> bool:
            nonlocal cancellation_checks
            cancellation_checks += interruption.place is not None
            return interruption.place is not None

        def function(**arguments: Any) -> Any:
            if raw is not None:
                with suppress(Exception):  # a model that accepts them only once
                    arguments["params"] = self.task.params_model.model_validate(raw)
                    validated.append(_copied(arguments["params"]))
            with audit, interruption:  # around nothing but user code
                returned = self.task.function(**arguments)
            running.extend(threads.running())
            return returned

        with ExitStack() as stack:
            processes = stack.enter_context(self.watch.task_function())
            interruption.dropped = stack.enter_context(silenced())
            threads = stack.enter_context(under(conditions or self.conditions, self.user_code, used))
            start = time.perf_counter()
            watched = replace(self.task, function=function)
            try:
                ended = self._call_function(watched, workspace, params, with_hooks(current, is_cancelled=is_cancelled))
            finally:
                if interruption.is_planned:  # destructors of what the function left open run while they are silenced
                    gc.collect(1)
            seconds = time.perf_counter() - start
            if interruption.is_planned:
                threads.join(LONGEST_JOIN)
        return Call(
            ended,
            output=self._output(ended, workspace),
            audit=audit,
            interruption=interruption,
            threads=threads,
            workspace=workspace,
            seconds=seconds,
            cancellation_checks=cancellation_checks,
            processes=processes,
            running=running,
            in_current=left_files(scratch[0], self.task) if scratch else (),
            in_temporary=tuple(scan_tree(scratch[1].resolve()).files) if scratch else (),
            outside_files=tuple(path for path in audit.outside if path.is_file()),
            used=frozenset(used),
            params=validated[-1],
        )

    def _output(self, ended: Returned | Raised, workspace: Path | None) -> Output:
        result, problem = None, ""
        if isinstance(ended, Raised):
            problem = ended.message
        else:
            try:
                result = dump_result(self.task, ended.value, Limits().max_result_bytes)
            except InvalidResult as error:
                problem = f"Invalid result: {error}"
        return Output(result, {} if workspace is None else read_files(workspace), problem)

    def _violations(self, workspace: Path) -> tuple[Finding, ...]:
        spec, tree = self.task.workspace, scan_tree(workspace)
        if spec is None:
            return ()
        irregular = check_tree(tree, spec.key_prefix, View.of(spec))
        findings = (*irregular, *evaluate(spec.post, tree.listing, phase=Phase.POST, disk=tree))
        return tuple(finding for finding in findings if not finding.satisfied)

    @contextmanager
    def removing_files_outside(self) -> Iterator[None]:
        """Wrap an interrupted call: remove new files outside of its attempt, because they would fail the next test.
        Older files stay."""
        outside = self.first.audit.outside
        before = {path for path in outside if path.exists()}
        try:
            yield
        finally:
            for path in outside:
                if path not in before and path.is_file() and not path.is_symlink():
                    path.unlink()

    # ------------------------------------------------------------------------------ own guardrails

    def verdicts(
        self, conditions: Conditions | None = None, *, forget: bool = True, output: Mapping[str, bytes] | None = None
    ) -> Verdicts:
        """Return the verdicts of the guardrails of the author: those of `pre` about the input, those of `post` about
        `output`, by default that of the first call. The files are as old as the clock of the conditions says."""
        verdicts: dict[tuple[str, str], bool] = {}
        rules = own_guardrails(self.task)
        conditions = conditions or self.conditions
        if forget and rules:
            self.memory.restore()
        if output is None:
            output = self.first.output.files if rules else {}
        trees = {Phase.PRE: self.inputs.files or {}, Phase.POST: output}
        for phase, rule in rules:
            with build(trees[phase]) as root, self.watch.user_code():
                for path in trees[phase] if conditions.pinned else ():
                    os.utime(root / path, (conditions.start, conditions.start))
                scan = scan_tree(root)
                with under(conditions, self.user_code, self._used_by_rules):
                    (finding,) = evaluate([rule], scan.listing, phase=phase, disk=scan)
                verdicts[phase, str(rule)] = finding.satisfied
        return verdicts

    @property
    def used(self) -> frozenset[str]:
        """The sources that the function or a guardrail of the author has used: `time`, `random`, `listing`."""
        if not self._used_by_rules:
            self.verdicts()
        return self.first.used | self._used_by_rules

    # ------------------------------------------------------------------------------ other processes

    def outputs_of_other_processes(self) -> list[tuple[Output, Verdicts]]:
        """Return the outcome of the call and the verdicts of own guardrails in a process for each seed.

        Raises:
            pytest.skip.Exception: the task cannot be imported there, or does not end in time.
        """
        job = {
            "path": sys.path,
            "module": self.task.module,
            "imports": sorted(REPLACED_LIBRARIES & sys.modules.keys() | self.user_code.modules.keys()),
            "params": self.inputs.params.model_dump(mode="json", by_alias=True, round_trip=True),
            "inputs": (self.inputs.current, self.inputs.files, self.inputs.times),
            "output": self.first.output.files,
            "conditions": self.conditions,
            "seconds": self.watch.seconds,
        }
        with tempfile.TemporaryDirectory(prefix="perago-elsewhere-") as scratch:
            question = Path(scratch, "question")
            question.write_bytes(pickle.dumps(job))
            answers = [Path(scratch, f"answer-{seed}") for seed in SEEDS]
            running = [_start(seed, question, answer) for seed, answer in zip(SEEDS, answers, strict=True)]
            deadline = time.monotonic() + self.watch.seconds
            try:
                for process in running:
                    process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pytest.skip("the case did not end in another process")
            finally:
                for process in running:
                    process.kill()
                    process.wait()
            return [_answer(answer) for answer in answers]


def _start(seed: int, question: Path, answer: Path) -> subprocess.Popen[bytes]:
    program = f"from {__name__} import main; main()"
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-c", program, str(question), str(answer)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _answer(file: Path) -> tuple[Output, Verdicts]:
    try:
        answer: tuple[Output, Verdicts] | str = pickle.loads(file.read_bytes())  # noqa: S301 - written by a process of ours
    except (OSError, EOFError, pickle.UnpicklingError):
        answer = "the process ended without an answer"
    if isinstance(answer, str):
        pytest.skip(f"the case cannot run in another process: {answer}")
    return answer


def main() -> None:
    """Call the function. Return its `Output`, or the reason why it cannot be called."""
    question, answer = map(Path, sys.argv[1:3])
    job = pickle.loads(question.read_bytes())  # noqa: S301 - written by the process that started this one
    sys.path[:] = job["path"]
    answer.write_bytes(pickle.dumps(_output_of(job)))


def _output_of(job: dict[str, Any]) -> tuple[Output, Verdicts] | str:
    try:
        task = load_task(job["module"])
        for name in job["imports"]:  # so that they have the fake clock although the function imports them
            with suppress(Exception):  # the function may prepare the import
                importlib.import_module(name)
        params = task.params_model.model_validate(job["params"])
    except Exception as error:  # noqa: BLE001 - user code may raise anything
        return f"{type(error).__name__}: {error}"
    watch = Watch(job["seconds"], LastResort(enabled=False))
    case = FaultCase(task, RunCase("", {}, {}, "completed"), watch, call_function)
    case.inputs = CallInput(params, *job["inputs"])
    with watch:
        output = case.call_again(job["conditions"]).output
        return output.problem or (output, case.verdicts(job["conditions"], output=job["output"]))


def _copied(params: BaseModel) -> BaseModel:
    """Return a deep copy, or a shallow one if the params hold an object that cannot be copied, such as a lock."""
    try:
        return params.model_copy(deep=True)
    except Exception:  # noqa: BLE001 - a value may raise anything when it is copied
        return params.model_copy()


def _ignore(*_: object) -> None:
    pass
