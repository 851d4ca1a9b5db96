"""`--perago-cover`: which tests satisfied and violated each guardrail, and which published files no guardrail guards.

Nothing of it is imported unless it is asked for.

A point is one thing that should be: each guardrail was satisfied in one test and violated in another, each guardrail
that requires files notices the loss of one that an example publishes, and each published file is missed by a guardrail
if it is absent, empty or cut off.

The example is run once more. Each file that it has added or changed is damaged in the tree that the function left, and
the post guardrails judge that tree.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from perago.authoring import Task
from perago.authoring.context import Current
from perago.authoring.workspace import Guardrail
from perago.driver import Raised, Returned
from perago.guardrails.evaluation import Phase, evaluate
from perago.ports import TaskStatus
from perago.testing.cases import RunCase, read_tree
from perago.testing.constraints import violations_of
from perago.testing.services import InMemoryServices, call_and_note
from perago.testing.tree_files import fast_directory, write_tree
from perago.workspace.scan import scan_tree
from pytest_perago.collection import CaseItem
from pytest_perago.confinement import TimeLimitExceeded, Watch, leaving_no_process
from pytest_perago.faults.case import read_files
from pytest_perago.kinds.guardrail import phases_of
from pytest_perago.kinds.run import case_of_test
from pytest_perago.options import COVERAGE, CoverOptions
from pytest_perago.session import existing_project, project_of

Absence = Literal["alone", "with others", "no"]


@dataclass(slots=True)
class GuardrailCover:
    """One guardrail of a task. `satisfied_by` and `violated_by` are node ids, sorted."""

    phase: str
    rule: str
    requires: bool
    """Whether it requires files after the function, so that the loss of one may be noticed."""
    satisfied_by: list[str] = field(default_factory=list)
    violated_by: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    """Published files whose damage it notices."""

    @property
    def problems(self) -> list[str]:
        """What is wrong with it, in words; empty if nothing is."""
        found = [f"never {word}" for word, tests in self._verdicts() if not tests]
        if self.requires and not self.notices:
            found.append("notices the loss of no published file")
        return found

    @property
    def points(self) -> tuple[int, int]:
        """Those that are covered, and all."""
        points = 2 + self.requires
        return points - len(self.problems), points

    def _verdicts(self) -> tuple[tuple[str, list[str]], ...]:
        return ("satisfied", self.satisfied_by), ("violated", self.violated_by)


@dataclass(slots=True)
class FileCover:
    """One file that the attempt of an example publishes. None: the file is too small to be damaged that way."""

    example: str
    path: str
    absent: Absence
    empty: bool | None
    truncated: bool | None
    noticed_by: list[str] = field(default_factory=list)
    """The guardrails that notice any of it, sorted."""

    @property
    def is_unguarded(self) -> bool:
        """Whether no guardrail notices anything."""
        return not self.noticed_by

    @property
    def points(self) -> tuple[int, int]:
        """Those that are covered, and all."""
        known = [noticed for noticed in (self.absent != "no", self.empty, self.truncated) if noticed is not None]
        return sum(known), len(known)


@dataclass(slots=True)
class TaskCover:
    """One task."""

    task: str
    module: str
    guardrails: list[GuardrailCover] = field(default_factory=list)
    files: list[FileCover] = field(default_factory=list)
    unlooked: int = 0
    """Published files beyond those that were tried."""

    @property
    def points(self) -> tuple[int, int]:
        """Those that are covered, and all."""
        return _sum([*(each.points for each in self.guardrails), *(each.points for each in self.files)])


@dataclass(slots=True)
class Coverage:
    """All tasks, by module and name."""

    tasks: list[TaskCover]

    @property
    def points(self) -> tuple[int, int]:
        """Those that are covered, and all."""
        return _sum(task.points for task in self.tasks)

    @property
    def percent(self) -> float:
        """Covered points of a hundred; 100 where there is nothing to cover."""
        return percent(self.points)

    def as_json(self) -> dict[str, Any]:
        """For `--perago-cover-json`."""
        return {
            "version": 1,
            "percent": round(self.percent, 2),
            "covered": self.points[0],
            "points": self.points[1],
            "tasks": [_task_json(task) for task in self.tasks],
        }


def percent(points: tuple[int, int]) -> float:
    """Covered points of a hundred."""
    covered, number = points
    return 100.0 * covered / number if number else 100.0


def _sum(points: Iterable[tuple[int, int]]) -> tuple[int, int]:
    found = list(points)
    return sum(covered for covered, _ in found), sum(number for _, number in found)


def _task_json(task: TaskCover) -> Mapping[str, Any]:
    return {
        "task": task.task,
        "module": task.module,
        "percent": round(percent(task.points), 2),
        "guardrails": [{**asdict(each), "problems": each.problems} for each in task.guardrails],
        "files": [{**asdict(each), "unguarded": each.is_unguarded} for each in task.files],
        "files_not_looked_at": task.unlooked,
    }


MOST_FILES = 100
"""Published files of one example that are damaged."""
_MOST_ALIKE = 20
"""Files that are taken away together."""


def covered_files(task: Task, case: RunCase, watch: Watch) -> tuple[list[FileCover], int]:
    """What the guardrails notice of each file that the case publishes, and how many files more it publishes.

    Raises:
        TimeLimitExceeded: the function takes too long.
    """
    if task.workspace is None or task.workspace.read_only:
        return [], 0
    with watch:
        tree, paths = _published(task, case, watch)
    with tempfile.TemporaryDirectory(prefix="perago-cover-", dir=fast_directory()) as scratch:
        root = Path(scratch, "workspace")
        root.mkdir()
        write_tree(root, tree)
        judge = _Judge(task.workspace.post, root, tree)
        return [judge.cover(case.label, path, paths) for path in paths[:MOST_FILES]], max(0, len(paths) - MOST_FILES)


def _published(task: Task, case: RunCase, watch: Watch) -> tuple[Mapping[str, bytes], Sequence[str]]:
    """The tree after the function, and the files of it that are published; nothing if the attempt does not complete."""
    found: list[Mapping[str, bytes]] = []

    def call(task: Task, workspace: Path | None, params: BaseModel, current: Current) -> Returned | Raised:
        with leaving_no_process(), watch.code_of_author():
            ended = call_and_note(task, workspace, params, current)
        if workspace is not None:
            found.append(read_files(workspace))
        return ended

    prefix = task.workspace.key_prefix if task.workspace else ""
    with InMemoryServices(call=call) as services:
        ref = services.seed({prefix + path: content for path, content in read_tree(case.tree).items()})
        services.start(task, case.params, ref=ref)
        record = services.run_delivery(task, services.take(task))
    if not found or record.report is None or record.report.status is not TaskStatus.COMPLETED:
        return {}, ()
    return found[0], sorted(file.path for file in (*record.changes.added, *record.changes.changed))


class _Judge:
    """Damages a tree on a disk, and asks the rules."""

    def __init__(self, rules: Sequence[Guardrail], root: Path, tree: Mapping[str, bytes]) -> None:
        self._rules = rules
        self._root = root
        self._tree = tree

    def cover(self, example: str, path: str, published: Sequence[str]) -> FileCover:
        """What is noticed of one file."""
        content = self._tree[path]
        noticed = set(self._without([path]))
        absent: Absence = "alone" if noticed else "no"
        if not noticed:
            noticed = self._in_company(path, published)
            absent = "with others" if noticed else "no"
        empty = self._with(path, b"") if content else None
        half = self._with(path, content[: len(content) // 2]) if len(content) > 1 else None
        noticed |= (empty or set()) | (half or set())
        return FileCover(
            example,
            path,
            absent,
            None if empty is None else bool(empty),
            None if half is None else bool(half),
            sorted(noticed),
        )

    def _in_company(self, path: str, published: Sequence[str]) -> set[str]:
        """The rules that miss the file once as many others like it are gone as they allow. A rule that wants one of
        several files misses none alone."""
        for alike in (_same_place, _same_ending):
            gone: list[str] = []
            for other in [each for each in published if each != path and alike(each, path)][:_MOST_ALIKE]:
                if not self._without([*gone, other]):
                    gone.append(other)
            if gone and (noticed := self._without([*gone, path])):
                return noticed
        return set()

    def _without(self, paths: Sequence[str]) -> set[str]:
        for path in paths:
            (self._root / path).unlink()
        return self._restored(paths)

    def _with(self, path: str, content: bytes) -> set[str]:
        (self._root / path).write_bytes(content)
        return self._restored([path])

    def _restored(self, paths: Sequence[str]) -> set[str]:
        """The rules that the tree violates now; then it is as it was."""
        tree = scan_tree(self._root)
        findings = evaluate(self._rules, tree.listing, phase=Phase.POST, disk=tree)
        write_tree(self._root, {path: self._tree[path] for path in paths})
        return {str(finding.rule) for finding in findings if not finding.satisfied}


def _same_place(one: str, other: str) -> bool:
    return PurePosixPath(one).parent == PurePosixPath(other).parent and _same_ending(one, other)


def _same_ending(one: str, other: str) -> bool:
    return PurePosixPath(one).suffix == PurePosixPath(other).suffix


_GENERATED = ("::guardrail[", "::fuzz[", "::faults[")
"""Tests whose verdicts say less of an author's own than those of cases and written tests."""
_ABSENT = {"alone": "yes", "with others": "with others", "no": "NO"}


def summarise(terminalreporter: Any, coverage: Coverage, fail_under: float | None) -> None:
    """Print it, and the verdict about the threshold, if there is one."""
    terminalreporter.section("perago cover")
    if not coverage.tasks:
        terminalreporter.line("no task had tests in this run: name modules with --perago-modules")
    for task in coverage.tasks:
        for line in task_lines(task):
            terminalreporter.line(line)
    covered, points = coverage.points
    terminalreporter.line(f"total: {covered} of {points} points, {coverage.percent:.1f} %")
    if fail_under is not None and coverage.percent < fail_under:
        terminalreporter.line(f"FAIL: below --perago-cover-fail-under={fail_under:g}", red=True)


def task_lines(task: TaskCover) -> Iterator[str]:
    """A task: a line for each guardrail, and one for each file."""
    yield f"{task.task} ({task.module})  {percent(task.points):.0f} %"
    if task.files and not task.guardrails:
        yield "  ! no guardrails"
    for guardrail in task.guardrails:
        yield from _guardrail_lines(guardrail)
    for file in task.files:
        yield _file_line(file)
    if task.unlooked:
        yield f"    and {task.unlooked} more published files, which were not looked at"


def _guardrail_lines(guardrail: GuardrailCover) -> Iterator[str]:
    problems = guardrail.problems
    yield f"  {'!' if problems else ' '} {guardrail.phase} {guardrail.rule}"
    if problems:
        yield f"      {'; '.join(problems)}"
    for word, tests in (("satisfied by", guardrail.satisfied_by), ("violated by", guardrail.violated_by)):
        if tests:
            yield f"      {word} {_some(tests)}"


def _some(tests: Iterable[str]) -> str:
    """The test that tells most, and how many others."""
    found = sorted(tests, key=lambda test: (any(kind in test for kind in _GENERATED), test))
    first = found[0].rpartition("::")[2] if any(kind in found[0] for kind in (*_GENERATED, "::run[")) else found[0]
    return first + (f" and {len(found) - 1} more" if len(found) > 1 else "")


def _file_line(file: FileCover) -> str:
    words = {True: "yes", False: "no", None: "-"}
    mark = "!" if file.absent == "no" else " "
    noticed = f"absent {_ABSENT[file.absent]}, empty {words[file.empty]}, cut off {words[file.truncated]}"
    unguarded = "; no guardrail misses it" if file.is_unguarded else ""
    return f"  {mark} file {file.path} ({file.example}): noticed if {noticed}{unguarded}"


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
        [phase, str(rule), phase == "post" and publishes and "missing" in violations_of(rule)]
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
