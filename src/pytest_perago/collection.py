"""The pytest items of generated tests, and their collectors: a file with task modules, a task, and what `task_tests`
returned."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perago.authoring import Task
from perago.taskdef.discovery import FoundModule
from perago.testing.failures import CaseFailed
from perago.testing.tasks import TaskTests
from pytest_perago.cases import Case, Location, call_with_fixtures
from pytest_perago.kinds import KINDS
from pytest_perago.options import HARNESS_ERROR, OPT_OUT, rerun_command
from pytest_perago.project import LoadedModule, project_of


class CaseItem(pytest.Function):
    """A case as a test function. Fixtures, marks, xdist and editors treat it like a written one. See `make`."""

    def __init__(
        self,
        name: str,
        parent: pytest.Collector,
        *,
        case: Case,
        owner: str,
        location: Location,
        output: str = "",
        task: Task | None = None,
    ) -> None:
        self.task = task
        self.case = case
        self._owner = owner
        self._place = location
        super().__init__(name=name, parent=parent, callobj=call_with_fixtures(case))
        if output:
            self.add_report_section("call", "stdout at import", output)
        self._opt_out()

    @classmethod
    def make(
        cls,
        parent: pytest.Collector,
        case: Case,
        owner: str,
        place: Location,
        output: str = "",
        task: Task | None = None,
    ) -> CaseItem:
        """The item of a case.

        Args:
            parent: what collects it.
            case: what it runs.
            owner: names the task or, where there is none, the module.
            place: where the task is, unless the case says where it comes from.
            output: what the import printed.
            task: None: there is none.
        """
        item: CaseItem = cls.from_parent(
            parent, name=case.name, case=case, owner=owner, location=case.location or place, output=output, task=task
        )
        return item

    if hasattr(pytest.Item, "id"):

        @property
        def id(self) -> Any:
            """The node id in parts, as newer versions of pytest have it. They read what stands in brackets as
            parameters, and find a failed test again (`--lf`, `--stepwise`) only if the item says so, too."""
            found: Any = getattr(super(), "id", None)  # older versions, by which types are checked, have none
            return type(found).parse(self.nodeid)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """Where the author would look: the task."""
        return self._place.file, self._place.line - 1, f"[perago] {self._owner} {self.name}"

    def runtest(self) -> None:
        """Run the case; what is neither a failed case nor a word of pytest is an error of the harness."""
        with suppress(ValueError):  # of the run before, if pytest-rerunfailures runs it again
            self.user_properties.remove(HARNESS_ERROR)
        try:
            super().runtest()
        except CaseFailed as failure:
            failure.subject = ("module" if self.case.kind == "import" else "task", f"{self._owner} ({self._where()})")
            failure.rerun = rerun_command(self, failure.rerun_options)
            raise
        except Exception:
            self.user_properties.append(HARNESS_ERROR)
            raise

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **kwargs: Any) -> Any:
        """A failed case tells its story without any traceback of ours; for a harness error the traceback is needed."""
        if isinstance(excinfo.value, CaseFailed):
            told = excinfo.getrepr(style="value")
            if told.reprcrash is not None:  # what the short summary says in one line
                told.reprcrash.message = excinfo.value.headline
            return told
        shown = super().repr_failure(excinfo, *args, **kwargs)
        if HARNESS_ERROR in self.user_properties and hasattr(shown, "addsection"):
            shown.addsection(
                "harness error",
                f"perago's own test code failed; this says nothing about {self._owner}. Please report it.\n"
                f"rerun: {rerun_command(self)}",
            )
        return shown

    def _where(self) -> str:
        file = self._place.file
        start = self.config.invocation_params.dir
        return f"{os.path.relpath(file, start) if file.is_relative_to(start) else file}:{self._place.line}"

    def _opt_out(self) -> None:
        for opt_out in project_of(self.config).opt_outs:
            if opt_out.covers(self._owner, self.name):
                self.add_marker(pytest.mark.skip(reason=f"perago_skip: {opt_out.reason}"))
                self.user_properties.append((OPT_OUT, opt_out.reason))
                return


class TaskFileCollector(pytest.File):
    """The file of a task module. `modules` are several only for modules that were not found."""

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
        found = project_of(self.config).find(self._selection.modules)
        unknown = [kind for kind in self._selection.kinds or () if kind not in KINDS]
        if unknown:
            raise self.CollectError(f"task_tests: no kind {unknown[0]!r}; there are {', '.join(KINDS)}")
        yield from nodes_of(self, found, self._selection.kinds)


class TaskCollector(pytest.Collector):
    """A task, whose children are its tests."""

    def __init__(self, *, task: Task, kinds: Sequence[str] | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._task = task
        self._kinds = kinds

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """The items of all cases."""
        task = self._task
        location = Location(Path(task.file), task.line)
        for case in project_of(self.config).cases(task, self._kinds):
            marked = replace(case, marks=(getattr(pytest.mark, f"perago_{case.kind}"), *case.marks))
            yield CaseItem.make(self, marked, task.name, location, task=task)


def nodes_of(
    parent: pytest.Collector, modules: Sequence[FoundModule], kinds: Sequence[str] | None
) -> Iterator[pytest.Item | pytest.Collector]:
    """A collector for each task, and a failing test for each module that has no valid one."""
    project = project_of(parent.config)
    loaded = [project.load(found) for found in modules]
    names = Counter(module.task.name for module in loaded if module.task is not None)
    for module in loaded:
        if module.task is not None:
            name = module.task.name
            label = name if names[name] == 1 else f"{name}@{module.found.name}"
            yield TaskCollector.from_parent(parent, name=label, task=module.task, kinds=kinds)
        elif not module.is_passed_over:
            yield _import_item(parent, module)


def _import_item(parent: pytest.Collector, module: LoadedModule) -> CaseItem:
    def fail() -> None:
        raise module.case_failed()

    name = module.found.name
    location = module.location() or Location(parent.path, 1)
    return CaseItem.make(parent, Case("import", name, fail), name, location, module.output)
