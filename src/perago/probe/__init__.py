"""Import a task module in a child process, and return its TaskDef or its problem.

The command line never imports an author's module. If the module prints, hangs, exits, crashes or forks at import, this
only affects a child process that is discarded.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from perago.probe import child
from perago.processes import raise_pending_signal, signals_held, sigterm_unwinds
from perago.taskdef.loading import find_modules


class Code(StrEnum):
    """Kinds of problems, for programs (docs/cli.md)."""

    INVALID = "invalid-module"
    TIMEOUT = "import-timeout"
    EXIT = "import-exit"
    CRASH = "import-crash"
    DUPLICATE = "duplicate-task"
    EXAMPLE = "invalid-example"
    MISSING = "missing-library"
    WORKFLOW = "invalid-workflow"


@dataclass(frozen=True, slots=True)
class ModuleProblem:
    """A problem of a module: the kind, what happened, where (`file:line` or empty), and the fix."""

    code: str
    message: str
    where: str = ""
    fix: str = ""
    traceback: str = ""
    is_no_task: bool = False
    """Whether the module is valid and declares no task."""
    others: tuple[ModuleProblem, ...] = ()
    """Further problems of the same module."""


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """The task that a module declares, in short, and its TaskDef as canonical text."""

    name: str
    workspace: str | None
    """The prefix, `/` for the root; None for a task without a workspace."""
    read_only: bool
    pre: int
    post: int
    definition: str
    declared: Sequence[Mapping[str, Any]] = ()
    """Its examples: `id`, `params` and `tree`, which is a directory, or contents by path: text, `{"base64": ...}`, or
    null for a directory."""
    environment: tuple[str, ...] = ()
    """Patterns for the withheld variables that its function gets."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    """Globs of the files of the workspace that it sees, and of those among them that it does not."""
    missing: tuple[tuple[str, str], ...] = ()
    """The libraries that its guardrails miss on this machine, each with the command that installs it."""

    @property
    def key_prefix(self) -> str:
        """The beginning of every key of its workspace."""
        prefix = (self.workspace or "").strip("/")
        return f"{prefix}/" if prefix else ""

    @property
    def examples(self) -> int:
        """The number of its examples."""
        return len(self.declared)

    @property
    def example(self) -> Mapping[str, Any] | None:
        """The parameters of its first example."""
        return self.declared[0]["params"] if self.declared else None


@dataclass(frozen=True, slots=True)
class WorkflowSummary:
    """A workflow that a module declares, and its definition as canonical text."""

    name: str
    version: int
    where: str
    """The file and line of its function."""
    definition: str
    schedule: Mapping[str, Any] | None = None
    """Its schedule as Conductor's JSON."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The keys of its input; `workspace` is one of them if a step has a workspace."""
        return tuple(json.loads(self.definition)["inputParameters"])


@dataclass(frozen=True, slots=True)
class Probed:
    """One module: either `task` or `problem`, and the leftovers of its import."""

    module: str
    task: TaskSummary | None
    problem: ModuleProblem | None
    output: str = ""
    """The end of its output at import."""
    printed: int = 0
    """Bytes that it printed in all."""
    left_running: bool = False
    """Whether it started processes that still ran and were stopped."""
    advice: tuple[str, ...] = ()
    """Suggestions for the module, if they were asked for."""
    files: tuple[str, ...] = ()
    """The module's file and those that it imported from below the current directory; empty if there is a problem."""
    workflows: tuple[WorkflowSummary, ...] = ()
    """The workflows that it declares."""


def _problem(fields: dict[str, Any]) -> ModuleProblem:
    return ModuleProblem(**{**fields, "others": tuple(map(_problem, fields.get("others", ())))})


FORKS = sys.platform == "linux"
"""Whether children are forked. A forked child has pydantic already, which halves the time of `perago check`. On other
systems forking is not reliable."""

_CHILD_CODE = "from perago.probe.child import run_fresh; run_fresh()"
_OUTPUT_TAIL_BYTES = 32 * 1024
"""Bytes of the output that are kept."""
_LAST_OUTPUT = 1.0
"""Seconds to wait for the last output, because a stray process can hold the pipe open forever."""


_KILL_DELAY = 30.0
"""Seconds after the limit until the child is killed. The child ends itself at the limit, unless the module has stopped
it or replaced its timer."""
_SIGNAL_CHECK_INTERVAL = 0.5
"""Seconds between two checks for a signal."""
_KILL_TIMEOUT = 10.0
"""Seconds that a killed process gets to disappear."""


class _Fork:
    """A forked child with the needed methods of `subprocess.Popen`."""

    def __init__(self, module: str, directory: str, seconds: float, examine: str, output: int) -> None:
        for stream in (sys.stdout, sys.stderr):  # what waits in their buffers must not come out twice
            stream.flush()
        import perago.taskdef  # noqa: F401 - loaded once, here, instead of in every child

        self._status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            child.run_forked(module, directory, seconds, examine, output)

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while the child runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def wait(self, timeout: float) -> int:
        """Return the exit status.

        Raises:
            subprocess.TimeoutExpired: the child is still running after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        pause = 0.001
        while (status := self.poll()) is None:
            if time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired("fork", timeout)
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        return status

    def kill(self) -> None:
        """Send SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def _fresh_interpreter(
    module: str, directory: str, seconds: float, examine: str, output: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _CHILD_CODE, module, directory, str(seconds), examine],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


class Output:
    """The end of the output of a child. The rest is discarded, because a module can print without limit."""

    def __init__(self, descriptor: int) -> None:
        self.size: int = 0
        self._tail = b""
        self._thread = threading.Thread(target=self._read, args=(descriptor,), daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for the last output."""
        self._thread.join(_LAST_OUTPUT)

    def text(self) -> str:
        """Return the end of the output."""
        return self._tail.decode("utf-8", "replace").replace("\r\n", "\n")

    def _read(self, descriptor: int) -> None:
        while chunk := os.read(descriptor, _OUTPUT_TAIL_BYTES):
            self.size += len(chunk)
            self._tail = (self._tail + chunk)[-_OUTPUT_TAIL_BYTES:]
        os.close(descriptor)


class ChildProcess:
    """One module that is imported in a child process. It is a context manager that ends the child with all its
    processes."""

    def __init__(self, module: str, seconds: float, *, examine: str = "", beside_threads: bool = False) -> None:
        """Start the child.

        Args:
            module: The import path of the task module.
            seconds: How long the import may take.
            examine: As in `inspect_module`.
            beside_threads: Whether this process has threads.
        """
        self.module = module
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds + _KILL_DELAY
        self._directory = tempfile.TemporaryDirectory(prefix="perago-probe-")
        self._reading, writing = os.pipe()
        self._output: Output | None = None
        try:
            # A process with threads must not fork: whatever they hold at that moment stays held in the child.
            start = _Fork if FORKS and not beside_threads else _fresh_interpreter
            self._process: _Fork | subprocess.Popen[bytes] = start(
                module, self._directory.name, seconds, examine, writing
            )
        finally:
            os.close(writing)

    def listen(self) -> Output:
        """Read the child's output on a thread, so that the child never waits for a reader. A process with threads must
        not fork. So start all children before you listen to one of them."""
        self._output = self._output or Output(self._reading)
        return self._output

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()
        if self._output is None:
            os.close(self._reading)
        self._directory.cleanup()

    def result(self) -> Probed:
        """Wait for the child, which ends itself at its time limit, and return its result."""
        output = self.listen()
        try:
            status = self._wait()
            left_running = self._end()
            probed = self._reported() or Probed(self.module, None, self._ended_without_report(status))
        except subprocess.TimeoutExpired:
            left_running = False
            self._end()
            probed = Probed(self.module, None, self._too_slow())
        output.finish()
        return replace(probed, output=output.text(), printed=output.size, left_running=left_running)

    def ends_soon(self) -> bool:
        """Wait for the child for a moment. Return whether it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_SIGNAL_CHECK_INTERVAL)
            return True
        return False

    def _wait(self) -> int:
        """Return the exit status. A signal that ends this process ends the wait, even if its exception was lost."""
        while True:
            raise_pending_signal()
            left = max(0.0, self._deadline - time.monotonic())
            try:
                return self._process.wait(min(left, _SIGNAL_CHECK_INTERVAL))
            except subprocess.TimeoutExpired:
                if left <= _SIGNAL_CHECK_INTERVAL:
                    raise

    def cancel(self) -> None:
        """End the child now, from another thread than the one that waits for its result."""
        self._process.kill()

    def _end(self) -> bool:
        """Kill the rest of the child's process group. Return whether a process of the group outlived the child."""
        outlived = False
        over = self._process.poll() is not None
        if sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
                outlived = over
        if not over:
            self._process.kill()  # it may not have made its own group yet
            self._process.wait(_KILL_TIMEOUT)
        return outlived

    def _file(self, name: str) -> str:
        try:
            return Path(self._directory.name, name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _reported(self) -> Probed | None:
        """Read the child's report; None if it left none."""
        if not (text := self._file(child.REPORT)):
            return None
        report = json.loads(text)
        workflows = tuple(WorkflowSummary(**workflow) for workflow in report.get("workflows", ()))
        if "problem" in report:
            problem, files = _problem(report["problem"]), tuple(report.get("files", ()))
            advice = tuple(report.get("advice", ()))
            return Probed(self.module, None, problem, advice=advice, files=files, workflows=workflows)
        task = report["task"]
        for name in ("environment", "include", "exclude"):
            task[name] = tuple(task[name])
        task["missing"] = tuple(map(tuple, task["missing"]))
        advice, files = tuple(report["advice"]), tuple(report["files"])
        return Probed(self.module, TaskSummary(**task), None, advice=advice, files=files, workflows=workflows)

    def _ended_without_report(self, status: int) -> ModuleProblem:
        stack = self._file(child.STACK)
        if stack.startswith(child.TIME_IS_UP):
            return self._too_slow()
        if status < 0:
            name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
            message = f"module {self.module} cannot be imported: the process was killed by {name}"
            where = _innermost_line(stack)
            return ModuleProblem(Code.CRASH, message, where, _crash_advice(-status, where))
        message = f"module {self.module} cannot be imported: it ends the process with status {status}"
        fix = "a task module only declares; put what a script does under `if __name__ == '__main__':`"
        return ModuleProblem(Code.EXIT, message, fix=fix)

    def _too_slow(self) -> ModuleProblem:
        message = f"module {self.module} was not imported after {self._seconds:g} seconds"
        fix = "move slow work from the module's top level into the task function, or raise --timeout"
        return ModuleProblem(Code.TIMEOUT, message, _innermost_line(self._file(child.STACK)), fix)


def _crash_advice(number: int, where: str) -> str:
    if number == signal.SIGKILL:
        return "it may have used too much memory: load data inside the task function, not when the module is imported"
    if where:  # only a fault leaves a stack behind
        return "a library that this line uses may be broken; leave it out, or use it inside the task function"
    return "remove the code that ends the process from the top level of the module, or find out who sent the signal"


def _innermost_line(stack: str) -> str:
    """Return the line at which a module hangs, from a faulthandler dump: the innermost one below the current directory,
    or the innermost of all."""
    frames = re.findall(r'File "([^<"][^"]*)", line (\d+)', stack)
    here = [(file, line) for file, line in frames if Path(file).is_relative_to(Path.cwd())]
    for file, line in here:
        return f"{Path(file).relative_to(Path.cwd())}:{line}"
    return f"{frames[0][0]}:{frames[0][1]}" if frames else ""


def probe_modules(
    modules: Sequence[str],
    seconds: float,
    *,
    packages: bool = False,
    workflows: bool = False,
    waiting: Waiting = contextlib.nullcontext,
) -> list[Probed]:
    """Import every module in a separate child process, each for at most `seconds`."""
    with probing(modules, seconds, packages=packages, workflows=workflows, waiting=waiting) as results:
        return list(results())


AT_ONCE = min(4, os.cpu_count() or 1)
"""Number of modules that are imported at the same time."""

Progress = Callable[[int, int], None]
"""Called with the number of modules that were imported, and of all modules."""
Waiting = Callable[[str], contextlib.AbstractContextManager[object]]
"""Shows that a module is being imported, as long as its block runs."""


@contextlib.contextmanager
def probing(
    modules: Sequence[str],
    seconds: float,
    *,
    packages: bool = False,
    examine: str = "",
    workflows: bool = False,
    progress: Progress | None = None,
    waiting: Waiting = contextlib.nullcontext,
) -> Iterator[Callable[[], Iterator[Probed]]]:
    """Start with the first modules immediately. The caller can do other work before it requests the results.

    Args:
        modules: Import paths.
        seconds: How long importing one module may take.
        packages: Treat a package as all modules below it that declare a task.
        examine: As in `inspect_module`.
        workflows: Accept a module that declares workflows only.
        progress: Called after each group of modules.
        waiting: Entered if a result takes longer than `_SIGNAL_CHECK_INTERVAL`. No process is started in the meantime.

    Returns:
        A function that yields the result of each module, in their order, as soon as it is known.
    """
    must_declare = _found(modules) if packages else dict.fromkeys(modules, True)
    names = tuple(must_declare)
    with contextlib.ExitStack() as stack, sigterm_unwinds():
        first = [_enter(stack, name, seconds, examine) for name in names[:AT_ONCE]]

        def probed() -> Iterator[Probed]:
            yield from _results(first, waiting)
            for start in range(AT_ONCE, len(names), AT_ONCE):
                if progress is not None:
                    progress(start, len(names))
                with contextlib.ExitStack() as some:
                    left = names[start : start + AT_ONCE]
                    yield from _results([_enter(some, name, seconds, examine) for name in left], waiting)

        def results() -> Iterator[Probed]:
            owners: dict[str, str] = {}
            is_empty = True
            for probe in probed():
                judged = accept_workflows(probe) if workflows else probe
                if must_declare[probe.module] or judged.problem is None or not judged.problem.is_no_task:
                    is_empty = False
                    yield _refuse_duplicate(judged, owners)
            if is_empty:
                yield from (_empty(package, names) for package in modules)

        yield results


def accept_workflows(probed: Probed) -> Probed:
    """Accept a module with workflows that declares no task."""
    is_enough = probed.workflows and probed.problem is not None and probed.problem.is_no_task
    return replace(probed, problem=None) if is_enough else probed


def _results(children: Sequence[ChildProcess], waiting: Waiting) -> Iterator[Probed]:
    for process in children:
        process.listen()
    for process in children:
        with contextlib.nullcontext() if process.ends_soon() else waiting(process.module):
            probed = process.result()
        yield probed


def _found(names: Sequence[str]) -> dict[str, bool]:
    """Return the modules that the names select, in order, and whether each must declare a task."""
    must_declare: dict[str, bool] = {}
    for name in names:
        for module in find_modules([name]):
            must_declare[module.name] = must_declare.get(module.name, False) or module.named
    return must_declare


def _empty(package: str, names: Sequence[str]) -> Probed:
    number = sum(name == package or name.startswith(f"{package}.") for name in names)
    message = f"none of the {number} modules of package {package} declares a task"
    fix = "decorate a function with @task(...) in one of them, or name the right package"
    return Probed(package, None, ModuleProblem(Code.INVALID, message, fix=fix))


def _enter(stack: contextlib.ExitStack, module: str, seconds: float, examine: str) -> ChildProcess:
    """Start a child that `stack` ends. Signals wait until both are done. Otherwise the child could keep running."""
    with signals_held():
        return stack.enter_context(ChildProcess(module, seconds, examine=examine))


def _refuse_duplicate(probed: Probed, owners: dict[str, str]) -> Probed:
    """Give each task name to the first module that declares it. A module that declares it again has a problem."""
    owner = owners.setdefault(probed.task.name, probed.module) if probed.task else probed.module
    checked = probed if owner == probed.module else refused_as_duplicate(probed, owner)
    for workflow in probed.workflows:
        other = owners.setdefault(f"workflow {workflow.name!r} {workflow.version}", probed.module)
        if other != probed.module:
            what = f"version {workflow.version} of the workflow {workflow.name!r}"
            message = f"module {probed.module} declares {what}, which {other} declares as well"
            problem = ModuleProblem(Code.DUPLICATE, message, fix="give one of the two another name")
            checked = replace(probed, task=None, workflows=(), problem=problem)
    return checked


def refused_as_duplicate(probed: Probed, owner: str) -> Probed:
    """Return the result for a module that declares the same task as `owner`."""
    name = probed.task.name if probed.task else ""
    message = f"module {probed.module} declares the task {name!r}, which {owner} declares as well"
    problem = ModuleProblem(Code.DUPLICATE, message, fix="give one of the two another name")
    return replace(probed, task=None, problem=problem)
