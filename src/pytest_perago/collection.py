"""The pytest items of generated tests, their collectors, and the plugin that collects configured modules."""

from __future__ import annotations

import fnmatch
import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from perago.authoring import Task
from perago.taskdef.loading import FoundModule
from perago.testing.tasks import TaskTests
from perago.trees.cases import CaseFailed
from pytest_perago.kinds import KINDS, Case, Location
from pytest_perago.observation import remove_created
from pytest_perago.options import (
    HARNESS_ERROR,
    OPT_OUT,
    configured_modules,
    kinds_of,
    named_in_ini,
    named_on_command_line,
    rerun_command,
)
from pytest_perago.session import session_of


class CaseItem(pytest.Function):
    """A case as a test function. Fixtures, marks, xdist and editors treat it like a written one.

    Args:
        case: the case.
        owner: names the task or, without one, the module.
        place: the place of the task, unless the case has its own.
        output: the output of the import.
        task: None without a task.
    """

    def __init__(
        self,
        name: str,
        parent: pytest.Collector,
        *,
        case: Case,
        owner: str,
        place: Location,
        output: str = "",
        task: Task | None = None,
    ) -> None:
        self.task = task
        self.case = case
        self.needed_module: str = ""
        """The module that the test needs; empty: it can need all modules."""
        if task is not None and case.label != "taskdef-accepted":  # this one looks for the name in all modules
            self.needed_module = task.module
        elif case.kind == "import":
            self.needed_module = owner
        self._owner = owner
        self._place = case.location or place
        self._shared = session_of(parent.config)

        def generated_test() -> None:
            case.check(self._shared)

        marks = ("perago", f"perago_{case.kind}") if case.kind in kinds_of(parent.config) else ("perago",)
        for mark in marks:
            getattr(pytest.mark, mark)(generated_test)
        super().__init__(name=name, parent=parent, callobj=generated_test)
        if output:
            self.add_report_section("call", "stdout at import", output)
        for opt_out in self._shared.opt_outs:
            if opt_out.covers(owner, self.name):
                self.add_marker(pytest.mark.skip(reason=f"perago_skip: {opt_out.reason}"))
                self.user_properties.append((OPT_OUT, opt_out.reason))
                break

    @property
    def module(self) -> Any:
        """Return the task module, so that plugins that shuffle tests, such as pytest-randomly, keep its tests
        together."""
        name = self.task.module if self.task is not None else ""
        return sys.modules.get(name, super().module)

    if hasattr(pytest.Item, "id"):

        @property
        def id(self) -> Any:
            """Return the parts of the node id, as newer versions of pytest have it. They treat the text in brackets as
            parameters, and find a failed test again (`--lf`, `--stepwise`) only if the item has it, too."""
            test_id: Any = getattr(super(), "id", None)  # older versions, by which types are checked, have none
            return type(test_id).parse(self.nodeid)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """Return the place of the task, because that is where the author must look."""
        return self._place.file, self._place.line - 1, f"[perago] {self._owner} {self.name}"

    def runtest(self) -> None:
        """Run the case. Any exception other than a failed case or one of pytest is an error of the harness."""
        with suppress(ValueError):  # of the run before, if pytest-rerunfailures runs it again
            self.user_properties.remove(HARNESS_ERROR)
        self._shared.item = self
        try:
            super().runtest()
        except CaseFailed as failure:
            file, start = self._place.file, self.config.invocation_params.dir
            shown = os.path.relpath(file, start) if file.is_relative_to(start) else file
            what = "task" if self.task is not None else "module" if self.case.kind == "import" else "workflow"
            failure.subject = (what, f"{self._owner} ({shown}:{self._place.line})")
            failure.rerun = rerun_command(self, failure.rerun_options, all_of_task=failure.needs_others)
            raise
        except (Exception, SystemExit):
            self.user_properties.append(HARNESS_ERROR)
            raise
        finally:
            remove_created(self.config.rootpath)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        """Show a failed case without any traceback of the plugin, and a harness error with its traceback."""
        if isinstance(excinfo.value, CaseFailed):
            representation = excinfo.getrepr(style="value")
            if representation.reprcrash is not None:  # what the short summary says in one line
                representation.reprcrash.message = excinfo.value.headline
            return representation
        shown = super().repr_failure(excinfo, *args, **kwargs)
        if HARNESS_ERROR in self.user_properties and hasattr(shown, "addsection"):
            is_own = self.case.kind in KINDS or self.case.kind not in kinds_of(self.config)
            code = "perago's own test code" if is_own else f"the kind {self.case.kind} of an installed package"
            problem = f"{code} failed, not {self._owner}.  Please report it."
            shown.addsection("harness error", f"{problem}\nrerun: {rerun_command(self)}")
        return shown


class TaskFileCollector(pytest.File):
    """The file of a task module. `modules` has more than one entry only for modules that were not found."""

    def __init__(self, *, modules: Sequence[FoundModule], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._modules = modules

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Import the module and collect its task, or one test that fails."""
        yield from nodes_of(self, self._modules, kinds=None)


class TaskTestsCollector(pytest.Collector):
    """`test_workers = task_tests("app.workers")` in a test file."""

    def __init__(self, *, selection: TaskTests, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._selection = selection

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Import the modules and collect their tasks."""
        modules = session_of(self.config).find(self._selection.modules)
        kinds = kinds_of(self.config)
        unknown = [kind for kind in self._selection.kinds or () if kind not in kinds]
        if unknown:
            raise self.CollectError(f"task_tests: no kind {unknown[0]!r}; the kinds are {', '.join(kinds)}")
        yield from nodes_of(self, modules, self._selection.kinds)


class CasesCollector(pytest.Collector):
    """A task or a workflow, whose children are its tests.

    Args:
        cases: makes its tests.
        owner: its name.
        place: its place.
        task: None for a workflow.
    """

    def __init__(
        self, *, cases: Callable[[], Iterable[Case]], owner: str, place: Location, task: Task | None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._cases = cases
        self._of: dict[str, Any] = {"owner": owner, "place": place, "task": task}

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """The items of all cases."""
        for case in self._cases():
            yield CaseItem.from_parent(self, name=case.name, case=case, **self._of)


def nodes_of(
    parent: pytest.Collector, modules: Sequence[FoundModule], kinds: Sequence[str] | None
) -> Iterator[pytest.Item | pytest.Collector]:
    """Yield a collector for each task, and a failing test for each module without a valid task."""
    session = session_of(parent.config)
    loaded = [session.load(module) for module in modules]
    names = Counter(module.task.name for module in loaded if module.task is not None)
    for module in loaded:
        if (task := module.task) is not None:
            label = task.name if names[task.name] == 1 else f"{task.name}@{module.source.name}"
            cases, place = partial(session.cases, task, kinds), Location(Path(task.file), task.line)
            yield CasesCollector.from_parent(parent, name=label, cases=cases, owner=task.name, place=place, task=task)
        elif not module.is_passed_over:
            name, place = module.source.name, module.location() or Location(parent.path, 1)
            case = Case(name, module.fail, kind="import")
            yield CaseItem.from_parent(parent, name=case.name, case=case, owner=name, place=place, output=module.output)
        for flow in module.workflows if kinds is None else ():
            label = f"{flow.name}@workflow" if names[flow.name] else flow.name
            from pytest_perago.workflows import workflow_cases  # most sessions have no workflow

            cases, place = partial(workflow_cases, flow, session), Location(Path(flow.file), flow.line)
            yield CasesCollector.from_parent(parent, name=label, cases=cases, owner=flow.name, place=place, task=None)


class ActivePlugin:
    """Collects the configured modules."""

    def __init__(self, config: pytest.Config) -> None:
        """Find the modules, and add their files to the collection.

        Raises:
            pytest.UsageError: an option or an ini value is not valid.
        """
        self._modules: dict[Path, list[FoundModule]] = {}
        self._packages: dict[Path, str] = {}
        self._opened: set[Path] = set()
        self._named = configured_modules(config)
        _refuse_unknown(config)
        for module in session_of(config).find(self._named):
            self._modules.setdefault(_anchor(module, config).resolve(), []).append(module)
            self._packages.update(_packages_of(module))
        self._add_arguments(config)

    def _add_arguments(self, config: pytest.Config) -> None:
        """Let pytest collect the files in addition to its arguments.

        A command line that names files or tests selects only those. With `--perago-modules`, the modules are added,
        unless the files belong to these modules.
        """
        named_paths, resolve = config.getoption("file_or_dir"), _resolver(config)
        if named_paths and (
            not named_on_command_line(config) or any(path in self._modules for path in map(resolve, named_paths))
        ):
            return
        paths = list(map(resolve, config.args))
        roots = [path for path in paths if path.is_dir()]
        for path in sorted(self._modules, key=lambda path: (len(path.parts), path)):
            root = next((root for root in roots if path.is_relative_to(root)), None)
            if root in self._opened:
                self._opened.update(_between(path, root))
            elif root is not None:  # pytest before 9 collects nothing if it gets a directory and also a file below it
                self._opened.update(_passed_over(path, root, config))
            elif any(other.is_relative_to(path.parent) for other in paths):
                config.args.append(str(path))
            else:  # pytest reads the directory around a file once for each file argument
                config.args.append(str(path.parent))
                roots.append(path.parent)
                self._opened.update((path.parent, path))

    @pytest.hookimpl(wrapper=True)
    def pytest_collect_file(
        self, file_path: Path, parent: pytest.Collector
    ) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
        """Collect a task module, in place of the test module that pytest sees in any file named on its command line."""
        collectors = yield
        modules = self._modules.get(file_path) or self._modules.get(file_path.resolve())
        if modules is None:
            return collectors
        patterns = parent.config.getini("python_files")
        if not any(fnmatch.fnmatch(file_path.name, pattern) for pattern in patterns):
            collectors = [collector for collector in collectors if not isinstance(collector, pytest.Module)]
        ours: Any = TaskFileCollector.from_parent(parent, path=file_path, modules=modules)
        return [*collectors, ours]

    @pytest.hookimpl(tryfirst=True)
    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Let pytest collect modules in directories that it skips, such as `build/`, but nothing else there."""
        if collection_path in self._opened:
            return False
        return True if collection_path.parent in self._opened else None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        """Treat a package that cannot be imported as a directory. Otherwise pytest would import it before each test in
        it, and report the error there."""
        name = self._packages.get(path)
        if name is None or session_of(parent.config).can_import(name):
            return None
        directory: pytest.Collector = pytest.Dir.from_parent(parent, path=path)
        return directory

    def pytest_enter_pdb(self, config: pytest.Config) -> None:
        """Suspend the time limit while a debugger is open, and for the rest of the test."""
        session_of(config).last_resort.debugger_opened()

    def pytest_report_header(self, config: pytest.Config) -> str:
        """The sources of the tests."""
        settings = session_of(config).settings
        return f"perago: {', '.join(self._named)}; kinds {', '.join(settings.kinds)}; run={settings.run}"


def _refuse_unknown(config: pytest.Config) -> None:
    """Refuse a misspelled module of the command line, because no test could fail for it.

    Raises:
        pytest.UsageError: there is no such module.
    """
    session = session_of(config)
    for module in session.find([name for name in named_on_command_line(config) if name not in named_in_ini(config)]):
        error = session.load(module).error if module.file is None else None
        if error is not None:
            raise pytest.UsageError(f"--perago-modules: {error.message}" + (f"\nfix: {error.fix}" if error.fix else ""))


def _anchor(module: FoundModule, config: pytest.Config) -> Path:
    """The file under which the tests of a module are collected: its own. One that does not exist is collected under
    the ini file that names it. One without a file, such as in an archive, is collected under the plugin."""
    if module.file is not None:
        return module.file
    if config.inipath is not None and module.name in named_in_ini(config):
        return config.inipath
    return Path(__file__).parent / "__init__.py"


def _packages_of(module: FoundModule) -> dict[Path, str]:
    """The directories of the packages around a module, and their names."""
    if module.file is None:
        return {}
    directory = module.file.parent
    name = module.name if module.file.name == "__init__.py" else module.name.rpartition(".")[0]
    packages = {}
    while name:
        packages[directory] = name
        directory, name = directory.parent, name.rpartition(".")[0]
    return packages


def _resolver(config: pytest.Config) -> Callable[[str], Path]:
    """Return the path of an argument, which can be a node id."""
    start = config.invocation_params.dir
    return lambda argument: (start / argument.partition("[")[0].partition("::")[0]).resolve()


def _between(path: Path, root: Path) -> list[Path]:
    """Yield the directories from `root` down to `path`, both included."""
    return [*reversed([parent for parent in path.parents if parent.is_relative_to(root)]), path]


def _passed_over(path: Path, root: Path, config: pytest.Config) -> list[Path]:
    """The directories from `root` to `path`, both included, from the first that pytest would skip."""
    between = _between(path, root)
    for index, step in enumerate(between[1:], start=1):
        if config.hook.pytest_ignore_collect(collection_path=step, config=config):
            return between[index:]
    return []
