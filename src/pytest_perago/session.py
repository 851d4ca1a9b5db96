"""The task modules of a pytest session, imported once, and the test cases that are made from them."""

from __future__ import annotations

import contextlib
import io
import itertools
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from perago.authoring import Example, Task, TaskDefinitionError
from perago.guardrails.function_guardrail import FunctionGuardrail
from perago.taskdef import load_task
from perago.taskdef.loading import CONDUCTOR_WORKFLOW, FoundModule, NoTask, add_import_roots, find_modules
from perago.testing.tasks import provided_params
from perago.trees.cases import CaseFailed, Cause
from pytest_perago.confinement import LastResort, OpenText, Stuck, Watch, formatted_stack, user_traceback
from pytest_perago.kinds import Case, Location, distinct
from pytest_perago.options import (
    SNAPSHOT,
    OptOut,
    Settings,
    chooses_kinds,
    kinds_of,
    parse_opt_outs,
    read_settings,
    record_of,
    rerun_command,
)
from pytest_perago.user_code import Memory

if TYPE_CHECKING:
    from perago.workflows import Workflow
    from perago.workflows.sdk import SdkWorkflow
    from pytest_perago.attempts import FaultCase


@dataclass(frozen=True, slots=True)
class LoadedModule:
    """A module after its import. `error` is set if it has no valid task. `output` is its output during the import."""

    source: FoundModule
    task: Task | None
    error: TaskDefinitionError | None = None
    output: str = ""
    stuck: Stuck | None = None
    """The line that it had reached at its time limit."""
    workflows: tuple[Workflow[Any, Any] | SdkWorkflow, ...] = ()
    """The workflows that it declares."""

    @property
    def is_passed_over(self) -> bool:
        """Whether the module declares no task and needs none, because it declares workflows or no configuration names
        it."""
        return isinstance(self.error, NoTask) and (not self.source.named or bool(self.workflows))

    def location(self) -> Location | None:
        """The line that caused the error, if it is known."""
        if self.stuck is not None and self.stuck.stack:
            frame = self.stuck.stack[-1]
            return Location(Path(frame.filename), frame.lineno or 1)
        if self.error is not None and self.error.file:
            return Location(Path(self.error.file), self.error.line or 1)
        return None

    def fail(self, _: Session) -> None:
        """Fail the test of the import, because the module has no task to test.

        Raises:
            CaseFailed: the reason why there is no task.
        """
        if self.error is None:
            raise ValueError(f"{self.source.name} was loaded")
        if self.stuck is not None:
            within = f"did not end within {self.stuck.seconds:g} s (perago_import_timeout)"
            stack = formatted_stack(self.stuck.stack)
            raise CaseFailed(Cause.MISTAKE, f"the import of {self.source.name} {within}", details=[stack])
        facts = [("fix", self.error.fix)] if self.error.fix else []
        details = [user_traceback(self.error.__cause__)]
        raise CaseFailed(Cause.MISTAKE, self.error.message, *facts, details=details)


def load_module(module: FoundModule, watch: Watch) -> LoadedModule:
    """Import the module and find its task. All exceptions are caught, except Ctrl-C."""
    captured = io.BytesIO()
    try:
        with watch, captured_output(captured), watch.user_code():
            task = load_task(module.name)
    except TaskDefinitionError as error:
        return LoadedModule(module, None, error, _text(captured), watch.stuck, _workflows(module.name))
    sys.stdout.write(_text(captured))  # as if it had been printed, for pytest to treat as usual
    return LoadedModule(module, task, workflows=_workflows(module.name))


def _workflows(module: str) -> tuple[Workflow[Any, Any] | SdkWorkflow, ...]:
    """The workflows of a module; its import has loaded `perago.workflows` or the SDK if it declares any."""
    if module not in sys.modules or not {"perago.workflows", CONDUCTOR_WORKFLOW} & sys.modules.keys():
        return ()
    from perago.workflows.sdk import all_workflows_of

    return all_workflows_of(sys.modules[module])


@contextlib.contextmanager
def captured_output(target: io.BytesIO) -> Iterator[None]:
    """Write the output of Python code in the block to `target`."""
    output = OpenText(target)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        yield


def _text(captured: io.BytesIO) -> str:
    return captured.getvalue().decode(errors="replace")


class Session:
    """The shared data of the generated tests of one pytest session. `session_of` creates it on first use."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.loaded: dict[str, LoadedModule] = {}
        """The modules that were imported so far, by name."""
        self._sources: dict[str, FoundModule] = {}
        self.opt_outs: tuple[OptOut, ...] = parse_opt_outs(config.getini("perago_skip"))
        self.settings: Settings = read_settings(config)
        has_own_limit = config.pluginmanager.has_plugin("faulthandler") and config.getini("faulthandler_timeout")
        self.last_resort: LastResort = LastResort(enabled=not float(has_own_limit or 0))
        self.fault_cases: dict[tuple[str, str, str], FaultCase] = {}
        """The last cases of the kind `faults`, so that their tests share the first attempt."""
        self._memories: dict[str, Memory] = {}
        self.item: pytest.Item
        """The generated test that runs now."""

    # ------------------------------------------------------------------------------- the test that runs

    def watch(self) -> Watch:
        """Return the time limit of a test that runs a task function."""
        return Watch(self.settings.run_timeout, self.last_resort)

    def memory(self, module: str) -> Memory:
        """Return the values of a task module before the first test that calls its function."""
        if module not in self._memories:
            self._memories[module] = Memory(module)
        return self._memories[module]

    def cache_file(self, name: str) -> Path | None:
        """Return a file in the cache directory of pytest; None if pytest has no cache."""
        cache = getattr(self.config, "cache", None)
        return None if cache is None else cache.mkdir("perago") / name

    def rerun_command(self, option: str) -> str:
        """Return the command that runs the current test again with one more option."""
        return rerun_command(self.item, [option])

    def add_snapshot(self, change: str | None) -> None:
        """Add the snapshot that the current test wrote to the summary, unless it is None."""
        if change is not None:
            self.item.user_properties.append((SNAPSHOT, change))

    # ----------------------------------------------------------------------------------------- modules

    def find(self, names: Sequence[str]) -> tuple[FoundModule, ...]:
        """Find the named modules. If `sys.path` does not provide one, the root directory and its `src` are added, as
        pytest does for test files."""
        roots = [self.config.invocation_params.dir, self.config.rootpath, self.config.rootpath / "src"]
        add_import_roots(list(dict.fromkeys(roots)), names)
        modules = find_modules(names)
        for module in modules:
            known = self._sources.get(module.name)
            if known is None or module.named:
                self._sources[module.name] = module
        return modules

    def load(self, module: FoundModule) -> LoadedModule:
        """Return the module, imported at most once."""
        if module.name not in self.loaded:
            self.loaded[module.name] = load_module(module, Watch(self.settings.import_timeout, self.last_resort))
        return replace(self.loaded[module.name], source=module)

    def can_import(self, package: str) -> bool:
        """Whether the package itself can be imported. It need not declare a task."""
        loaded = self.load(FoundModule(package, None, named=False))
        return loaded.error is None or package in sys.modules

    # ------------------------------------------------------------------------------------------- tasks

    def cases(self, task: Task, kinds: Iterable[str] | None = None) -> Iterator[Case]:
        """Make all cases of the task, by kind. A kind that cannot make its cases becomes one failing case."""
        known = kinds_of(self.config)
        selected = self.settings.kinds if kinds is None else tuple(kind for kind in known if kind in set(kinds))
        if kinds is None and not chooses_kinds(self.config) and not _has_own_guardrails(task):
            selected = tuple(kind for kind in selected if not known[kind].for_own_guardrails)
        return distinct(itertools.chain.from_iterable(self._of_kind(kind, task) for kind in selected))

    def provided(self, task: Task) -> Sequence[Mapping[str, Any] | Example]:
        """Return the parameters that `provide_params` and the hook `pytest_perago_params` give for a task."""
        answers = self.config.hook.pytest_perago_params(task=task)
        return (*provided_params(task.name), *itertools.chain.from_iterable(answer or () for answer in answers))

    def namesakes(self, task: Task) -> Sequence[Task]:
        """Return the tasks of other modules with the same name. This loads all modules of the session."""
        tasks = [self.load(module).task for _, module in sorted(self._sources.items())]
        return [other for other in tasks if other and other.name == task.name and other.module != task.module]

    def _of_kind(self, kind: str, task: Task) -> list[Case]:
        try:
            cases = kinds_of(self.config)[kind].cases
            make = pkgutil.resolve_name(cases) if isinstance(cases, str) else cases
            return [replace(case, kind=kind) for case in make(task, self)]
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a defect of a kind must not hide the other tests
            return [Case("cases", partial(_fail, error), kind=kind)]


def session_of(config: pytest.Config) -> Session:
    """Return the shared state of the generated tests.

    Raises:
        pytest.UsageError: an option or an ini value is not valid.
    """
    if (session := session_so_far(config)) is None:
        session = config.stash[_SESSION] = Session(config)
        record_of(config).generates_tests = True
    return session


def session_so_far(config: pytest.Config) -> Session | None:
    """Return the shared state of the generated tests; None if there are no such tests."""
    return config.stash.get(_SESSION, None)


_SESSION = pytest.StashKey[Session]()


def _has_own_guardrails(task: Task) -> bool:
    rules = (*task.workspace.pre, *task.workspace.post) if task.workspace is not None else ()
    return any(
        isinstance(rule, FunctionGuardrail) or type(rule).__module__.partition(".")[0] != "perago" for rule in rules
    )


def _fail(error: Exception | SystemExit, _: Session) -> None:
    raise error
