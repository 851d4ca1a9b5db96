"""Collects, in each process of a run, what its tests saw of guardrails, and adds it up in the one that reports."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterable, Iterator
from dataclasses import asdict
from typing import Any

import pytest

from perago.authoring import Task
from pytest_perago.collection import CaseItem
from pytest_perago.cover.model import Coverage, FileCover, GuardrailCover, TaskCover
from pytest_perago.cover.report import summarise
from pytest_perago.kinds.guardrail import phases_of
from pytest_perago.kinds.run import case_of_test
from pytest_perago.options import COVERAGE, CoverOptions
from pytest_perago.project import existing_project, project_of
from pytest_perago.watch import TimeLimitExceeded

_OUTPUT = "perago_cover"
_Key = tuple[str, str]
"""Module and name of a task."""
_ENDED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


class CoverPlugin:
    """Registered where coverage is asked for."""

    def __init__(self, options: CoverOptions) -> None:
        self._options = options
        self._seen: dict[tuple[str, ...], set[str]] = {}
        """The tests that saw a verdict: by module, task, phase, rule, and `satisfied` or `violated`."""
        self._files: dict[_Key, list[FileCover]] = {}
        self._unlooked: dict[_Key, int] = {}
        self._of_workers: list[dict[str, Any]] = []
        self._error = ""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Whatever guardrails say during a test, this test has seen."""
        before = set(_tried())
        _tried().clear()
        try:
            return (yield)
        finally:
            for verdict in _tried():
                if len(verdict) == 5:
                    self._seen.setdefault(verdict, set()).add(item.nodeid)
            _tried().update(before)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """After the test of a case has passed, look what would be missed of what it publishes."""
        yield
        if not isinstance(item, CaseItem) or item.task is None:
            return
        case = case_of_test(item.case)
        if case is None or case.expect != "completed":
            return
        from pytest_perago.cover.files import covered_files

        task = item.task
        try:
            files, unlooked = covered_files(task, case, project_of(item.config).settings.watch_run())
        except TimeLimitExceeded:
            return  # it passed a moment ago, and its `run` test is the one to say so
        key = task.module, task.name
        self._files.setdefault(key, []).extend(files)
        self._unlooked[key] = self._unlooked.get(key, 0) + unlooked

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker of pytest-xdist has collected."""
        found = getattr(node, "workeroutput", {}).get(_OUTPUT)
        if found is not None:
            self._of_workers.append(found)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Add up, write the file, and fail a run that is below the threshold."""
        own = self._as_told(session)
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[_OUTPUT] = own
            return
        coverage = merged([own, *self._of_workers])
        session.config.stash[COVERAGE] = coverage
        if session.exitstatus not in _ENDED:
            return
        if self._options.json is not None:
            try:
                self._options.json.write_text(json.dumps(coverage.as_json(), indent=2) + "\n", encoding="utf-8")
            except OSError as error:
                self._error = f"--perago-cover-json: {error}"
        below = self._options.fail_under is not None and coverage.percent < self._options.fail_under
        if (below or self._error) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        """The table."""
        coverage = config.stash.get(COVERAGE, None)
        if coverage is not None and not hasattr(config, "workeroutput"):
            summarise(terminalreporter, coverage, self._options.fail_under)
            if self._options.json is not None:
                terminalreporter.line(self._error or f"written to {self._options.json}")

    def _as_told(self, session: pytest.Session) -> dict[str, Any]:
        """What a worker tells: only what JSON can hold."""
        return {
            "tasks": [_declared(task) for task in _tasks(session)],
            "seen": [[*verdict, sorted(tests)] for verdict, tests in sorted(self._seen.items())],
            "files": [[*key, [asdict(file) for file in files]] for key, files in sorted(self._files.items())],
            "unlooked": [[*key, number] for key, number in sorted(self._unlooked.items())],
        }


def _tried() -> set[tuple[str, ...]]:
    """What attempts note; an empty set while nothing could run one."""
    services = sys.modules.get("perago.testing.services")
    found: set[tuple[str, ...]] = services.TRIED if services is not None else set()
    return found


def _tasks(session: pytest.Session) -> list[Task]:
    """The tasks that have tests in the run, or that the configuration names."""
    found = {}
    for item in getattr(session, "items", ()):
        if isinstance(item, CaseItem) and item.task is not None:
            found[item.task.module, item.task.name] = item.task
    project = existing_project(session.config)
    for module in project.loaded.values() if project is not None else ():
        if module.task is not None:
            found[module.task.module, module.task.name] = module.task
    return [task for _, task in sorted(found.items())]


def _declared(task: Task) -> list[Any]:
    publishes = task.workspace is not None and not task.workspace.read_only
    rules = [
        [phase, str(rule), phase == "post" and publishes and "missing" in rule.violations()]
        for phase, phase_rules in phases_of(task)
        for rule in dict.fromkeys(phase_rules)
    ]
    return [task.module, task.name, rules]


def merged(told: Iterable[dict[str, Any]]) -> Coverage:
    """The coverage of a run, of what its processes told."""
    parts = list(told)
    tasks: dict[_Key, TaskCover] = {}
    for module, name, rules in _all(parts, "tasks"):
        if (module, name) not in tasks:
            guardrails = [GuardrailCover(phase, rule, requires) for phase, rule, requires in rules]
            tasks[module, name] = TaskCover(name, module, guardrails)
    for module, name, phase, rule, verdict, tests in _all(parts, "seen"):
        for guardrail in tasks[module, name].guardrails if (module, name) in tasks else ():
            if (guardrail.phase, guardrail.rule) == (phase, rule):
                known = guardrail.satisfied_by if verdict == "satisfied" else guardrail.violated_by
                known[:] = sorted({*known, *tests})
    for module, name, files in _all(parts, "files"):
        tasks[module, name].files += [FileCover(**file) for file in files]
    for module, name, number in _all(parts, "unlooked"):
        tasks[module, name].unlooked += number
    for task in tasks.values():
        _finish(task)
    return Coverage([task for _, task in sorted(tasks.items())])


def _finish(task: TaskCover) -> None:
    task.files.sort(key=lambda file: (file.example, file.path))
    for guardrail in task.guardrails:
        if guardrail.phase == "post":
            guardrail.notices = sorted({file.path for file in task.files if guardrail.rule in file.noticed_by})
        guardrail.requires = guardrail.requires and bool(task.files)


def _all(parts: Iterable[dict[str, Any]], name: str) -> Iterator[list[Any]]:
    for part in parts:
        yield from part[name]


def activate_cover(config: pytest.Config, options: CoverOptions) -> None:
    """Collect from now on."""
    config.pluginmanager.register(CoverPlugin(options), "perago-cover")
