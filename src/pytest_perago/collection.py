"""The collectors: a file with task modules, a task, and what `task_tests` returned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from perago.authoring import Task
from perago.taskdef.discovery import FoundModule
from perago.testing.tasks import TaskTests
from pytest_perago.cases import Case, Location
from pytest_perago.items import CaseItem
from pytest_perago.kinds import KINDS
from pytest_perago.loading import LoadedModule
from pytest_perago.project import project_of


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
