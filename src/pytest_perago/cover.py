"""Record what the tests of a run tried of each task and, with `--perago-cover`, which published files no guardrail
requires.

Points are given for these facts: a guardrail was satisfied in one test and violated in another; a guardrail that
requires files notices the loss of one that an example publishes; some guardrail notices if a published file is absent,
empty or truncated.

To find out, the plugin runs each example once more. Each file that it has added or changed is damaged in the tree that
the function left, and the post guardrails judge that tree.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeAlias

import pytest
from pydantic import TypeAdapter

from perago.authoring import Example, Task
from perago.authoring.workspace import Guardrail
from perago.driver import Raised, Returned
from perago.guardrails.evaluation import Phase, evaluate
from perago.ports import TaskStatus
from perago.testing.constraints import violations_of
from perago.text import json_text
from perago.trees import fast_directory, write_tree
from perago.trees.cases import CaseFailed, RunCase
from perago.trees.differences import rendered
from perago.workspace.file_types import DELIMITERS, PARQUET, suffix_of
from perago.workspace.keys import View
from perago.workspace.scan import scan_tree
from pytest_perago.collection import CaseItem
from pytest_perago.confinement import TimeLimitExceeded, Watch
from pytest_perago.kinds.guardrail import phases_of
from pytest_perago.kinds.run import read_case
from pytest_perago.options import CoverOptions, configured_modules, received, record_of, send
from pytest_perago.session import captured_output, session_of, session_so_far

Absence = Literal["alone", "with others", "no"]


@dataclass(slots=True)
class GuardrailCover:
    """One guardrail of a task. `satisfied_by` and `violated_by` are node ids, sorted."""

    phase: str
    rule: str
    requires: bool
    """Whether it requires files after the function, so that it can notice the loss of one."""
    satisfied_by: list[str]
    violated_by: list[str]
    notices: list[str] = field(default_factory=list)
    """Published files whose damage it notices."""

    @property
    def problems(self) -> list[str]:
        """The problems of the guardrail, in words."""
        verdicts = ("satisfied", self.satisfied_by), ("violated", self.violated_by)
        problems = [f"never {word}" for word, tests in verdicts if not tests]
        if self.requires and not self.notices:
            problems.append("does not notice the loss of any published file")
        return problems

    @property
    def points(self) -> tuple[int, int]:
        """Return the covered points, and all points."""
        points = 2 + self.requires
        return points - len(self.problems), points


@dataclass(slots=True)
class FileCover:
    """One file that the attempt of an example publishes. None means that the file is too small to be damaged that
    way."""

    example: str
    path: str
    absent: Absence
    empty: bool | None
    truncated: bool | None
    noticed_by: list[str]
    """Return the guardrails that notice any damage, sorted."""
    raised: list[str] = field(default_factory=list)
    """Descriptions of the guardrails that raise an exception for the damaged file. An exception does not count as
    noticed."""

    @property
    def is_unguarded(self) -> bool:
        """Whether no guardrail notices anything."""
        return not self.noticed_by

    @property
    def points(self) -> tuple[int, int]:
        """Return the covered points, and all points."""
        known = [noticed for noticed in (self.absent != "no", self.empty, self.truncated) if noticed is not None]
        return sum(known), len(known)


@dataclass(slots=True)
class TaskCover:
    """One task and what tests have tried of it, in plain values for JSON."""

    task: str
    module: str
    place: str
    description: str
    examples: list[list[str]]
    """Id, params, tree, expectation and result, as texts."""
    guardrails: list[GuardrailCover]
    has_tests: bool
    """Whether the run has generated tests of the task."""
    ran: bool
    """Whether an attempt called its function."""
    files: list[FileCover]
    unchecked: int
    """Number of published files that were not tried."""

    @property
    def points(self) -> tuple[int, int]:
        """Return the covered points, and all points."""
        return _sum([*(part.points for part in self.guardrails), *(part.points for part in self.files)])

    def add(self, other: TaskCover) -> None:
        """Add what another process has tried."""
        for mine, others in zip(self.guardrails, other.guardrails, strict=True):
            mine.satisfied_by = sorted({*mine.satisfied_by, *others.satisfied_by})
            mine.violated_by = sorted({*mine.violated_by, *others.violated_by})
        self.files += other.files
        self.unchecked += other.unchecked
        self.ran |= other.ran
        self.has_tests |= other.has_tests


@dataclass(slots=True)
class Coverage:
    """All tasks, by module and name."""

    tasks: list[TaskCover]

    @property
    def points(self) -> tuple[int, int]:
        """Return the covered points, and all points."""
        return _sum(task.points for task in self.tasks)

    @property
    def percent(self) -> float:
        """The percentage of covered points. 100 if there are no points."""
        return percent(self.points)

    def as_json(self) -> dict[str, Any]:
        """The document for `--perago-cover-json`."""
        return {
            "version": 1,
            "percent": round(self.percent, 2),
            "covered": self.points[0],
            "points": self.points[1],
            "tasks": [_task_json(task) for task in self.tasks],
        }


def percent(points: tuple[int, int]) -> float:
    """The percentage of covered points."""
    covered, number = points
    return 100.0 * covered / number if number else 100.0


def _sum(points: Iterable[tuple[int, int]]) -> tuple[int, int]:
    pairs = list(points)
    return sum(covered for covered, _ in pairs), sum(number for _, number in pairs)


def _task_json(task: TaskCover) -> Mapping[str, Any]:
    return {
        "task": task.task,
        "module": task.module,
        "percent": round(percent(task.points), 2),
        "guardrails": [{**asdict(rule), "problems": rule.problems} for rule in task.guardrails],
        "files": [{**asdict(file), "unguarded": file.is_unguarded} for file in task.files],
        "files_not_looked_at": task.unchecked,
    }


# ------------------------------------------------------------------------ what a run has tried

_MOST_LINES = 40
_COVERAGE = pytest.StashKey[Coverage]()
_CoveredFiles: TypeAlias = dict[tuple[str, str], tuple[list[FileCover], int]]
_COVERED_FILES = pytest.StashKey[_CoveredFiles]()


def coverage_of(config: pytest.Config) -> Coverage | None:
    """Return the tasks of the run and what was tried of them; None before `gather`, and on a worker."""
    return config.stash.get(_COVERAGE, None)


def _covered_files_of(config: pytest.Config) -> _CoveredFiles:
    """Return the damaged published files of each task in this process, and the number of further files, by module and
    name of the task."""
    return config.stash.setdefault(_COVERED_FILES, {})


def gather(session: pytest.Session) -> None:
    """Put the tasks of the run into its record, with the results of all its processes. A worker of pytest-xdist sends
    its part to the controller."""
    config = session.config
    own = [_task_cover(config, task, has_tests=has_tests) for task, has_tests in _tasks(session)]
    if send(config, "tasks", [asdict(task) for task in own]):
        return
    sent = [values for records in received(config, "tasks") or () for values in records or ()]
    tasks: dict[tuple[str, str], TaskCover] = {}
    for task in (*own, *TypeAdapter(list[TaskCover]).validate_python(sent)):
        known = tasks.setdefault((task.module, task.task), task)
        if known is not task:
            known.add(task)
    for task in tasks.values():
        task.files.sort(key=lambda file: (file.example, file.path))
        for guardrail in task.guardrails:
            if guardrail.phase == "post":
                guardrail.notices = sorted({file.path for file in task.files if guardrail.rule in file.noticed_by})
            guardrail.requires = guardrail.requires and bool(task.files)
    config.stash[_COVERAGE] = Coverage([task for _, task in sorted(tasks.items())])


def _tasks(session: pytest.Session) -> Iterator[tuple[Task, bool]]:
    """The tasks that have tests in the run, or that the configuration names; and whether they have tests."""
    shared = session_so_far(session.config)
    modules = shared.loaded.values() if shared is not None else ()
    tasks = {(module.task.module, module.task.name): (module.task, False) for module in modules if module.task}
    for item in getattr(session, "items", ()):
        if isinstance(item, CaseItem) and item.task is not None:
            tasks[item.task.module, item.task.name] = item.task, True
    yield from tasks.values()


def _task_cover(config: pytest.Config, task: Task, *, has_tests: bool) -> TaskCover:
    key = task.module, task.name
    record = record_of(config)
    publishes = task.workspace is not None and not task.workspace.read_only
    files, unchecked = _covered_files_of(config).get(key, ([], 0))

    def cover(phase: str, rule: Guardrail) -> GuardrailCover:
        requires = phase == "post" and publishes and "missing" in violations_of(rule)
        tried = (record.tried.get((*key, phase, str(rule), verdict), ()) for verdict in ("satisfied", "violated"))
        return GuardrailCover(phase, str(rule), requires, *map(sorted, tried))

    return TaskCover(
        task.name,
        task.module,
        place=f"{Path(task.file).name}:{task.line}",
        description=task.description or "",
        examples=[_example(example) for example in task.examples],
        guardrails=[cover(phase, rule) for phase, rules in phases_of(task) for rule in dict.fromkeys(rules)],
        has_tests=has_tests,
        ran=(*key, "function") in record.tried,
        files=files,
        unchecked=unchecked,
    )


def _example(example: Example) -> list[str]:
    tree = example.tree
    if isinstance(tree, Mapping):
        lines = rendered(tree).splitlines()
        shown = "\n".join([*lines[:_MOST_LINES], *(["..."] if len(lines) > _MOST_LINES else [])]) or "empty"
    else:
        shown = "" if tree is None else f"{tree}/"
    result = "" if example.result is None else json_text(example.result)
    return [example.id, json_text(dict(example.params)), shown, example.expect, result]


# ---------------------------------------------------------------------------------- damaged files

MOST_FILES = 100
"""Published files of one example that are damaged."""
_MOST_SIMILAR = 20
"""Number of files that are removed together."""


def covered_files(task: Task, case: RunCase, watch: Watch) -> tuple[list[FileCover], int]:
    """Return what the guardrails notice of each published file of the case, and the number of further files.

    Raises:
        TimeLimitExceeded: the function takes too long.
    """
    if task.workspace is None or task.workspace.read_only:
        return [], 0
    from perago.testing.services import call_and_note
    from pytest_perago.attempts import CaseAttempts  # the services are loaded when something runs

    def call(*arguments: Any) -> Returned | Raised:
        with watch.task_function():
            return call_and_note(*arguments)

    # Its `run` test has shown the output.
    with watch, captured_output(io.BytesIO()), CaseAttempts(task, case, watch).started(call) as services:
        outcome = services.attempt(task.function)
        if outcome.status is not TaskStatus.COMPLETED:
            return [], 0
        view, paths = View.of(task.workspace), outcome.changed_files
        tree = {path: content for path, content in outcome.tree.items() if view.sees(path)}
    scratch = tempfile.TemporaryDirectory(prefix="perago-cover-", dir=fast_directory())
    with captured_output(io.BytesIO()), scratch as directory:
        root = Path(directory, "workspace")
        root.mkdir()
        write_tree(root, tree)
        judge = _Judge(task.workspace.post, root, tree)
        return [judge.cover(case.label, path, paths) for path in paths[:MOST_FILES]], max(0, len(paths) - MOST_FILES)


class _Judge:
    """Damages a tree on a disk, and asks the rules."""

    def __init__(self, rules: Sequence[Guardrail], root: Path, tree: Mapping[str, bytes]) -> None:
        self._rules = rules
        self._root = root
        self._tree = tree

    def cover(self, example: str, path: str, published: Sequence[str]) -> FileCover:
        """Return the kinds of damage of one file that are noticed."""
        content = self._tree[path]
        self._raised: dict[str, None] = {}
        noticed = self._noticing({path: None})
        absent: Absence = "alone" if noticed else "no"
        if not noticed:
            noticed = self._without_similar(path, published)
            absent = "with others" if noticed else "no"
        empty = self._noticing({path: b""}, "empty") if content else None
        half = self._noticing({path: content[: len(content) // 2]}, "cut off") if len(content) > 1 else None
        noticed |= (empty or set()) | (half or set())
        is_empty_noticed, is_half_noticed = (None if verdict is None else bool(verdict) for verdict in (empty, half))
        return FileCover(example, path, absent, is_empty_noticed, is_half_noticed, sorted(noticed), list(self._raised))

    def _without_similar(self, path: str, published: Sequence[str]) -> set[str]:
        """Return the rules that notice the loss of the file together with similar files. A rule that requires one of
        several files never notices the loss of only one. Files in the same directory come first, then files
        anywhere."""
        file = PurePosixPath(path)
        others = [PurePosixPath(other) for other in published if other != path]
        same_suffix = [other for other in others if other.suffix == file.suffix]
        for similar in ([other for other in same_suffix if other.parent == file.parent], same_suffix):
            removed: list[str] = []
            for other in map(str, similar[:_MOST_SIMILAR]):
                if not self._noticing(dict.fromkeys([*removed, other])):
                    removed.append(other)
            if removed and (noticed := self._noticing(dict.fromkeys([*removed, path]))):
                return noticed
        return set()

    def _noticing(self, damaged: Mapping[str, bytes | None], damage: str = "absent") -> set[str]:
        """Return the rules that the tree with these contents violates, and repair the tree. None removes a file. A rule
        that raises an exception does not count."""
        for path, content in damaged.items():
            file = self._root / path
            file.unlink() if content is None else file.write_bytes(content)
        tree = scan_tree(self._root)
        findings = evaluate(self._rules, tree.listing, phase=Phase.POST, disk=tree)
        write_tree(self._root, {path: self._tree[path] for path in damaged})
        for finding in findings:
            if finding.is_defect:
                self._raised[f"if {damage}: {finding.message}"] = None
        return {str(finding.rule) for finding in findings if not finding.satisfied and not finding.is_defect}


_GENERATED = ("::guardrail[", "::fuzz[", "::faults[")
"""Kinds of tests that say less about a guardrail than cases and written tests."""
_ABSENT = {"alone": "yes", "with others": "with others", "no": "NO"}


def _is_below(coverage: Coverage, fail_under: float | None) -> bool:
    """Whether a run fails. A run without any points has measured nothing, so it is below every threshold above 0."""
    return bool(fail_under) and (not coverage.points[1] or coverage.percent < (fail_under or 0))


def summarize(terminalreporter: Any, coverage: Coverage, fail_under: float | None) -> None:
    """Print the coverage, tasks with gaps first, and whether it reaches the threshold, if there is one."""
    terminalreporter.section("perago cover")
    covered, points = coverage.points
    for task in sorted(coverage.tasks, key=lambda task: percent(task.points) == 100):
        for line in task_lines(task):
            terminalreporter.line(line)
    if not coverage.tasks:
        modules = ", ".join(configured_modules(terminalreporter.config))
        selected = f"it selected no test of {modules}; run pytest without paths, or with a module's file"
        terminalreporter.line(
            f"no task had tests in this run: {selected if modules else 'name modules with --perago-modules'}"
        )
    elif not points:
        terminalreporter.line("nothing to cover: no task has guardrails, and no example of a task publishes files")
    else:
        terminalreporter.line(f"total: {covered} of {points} points, {coverage.percent:.1f} %")
    if _is_below(coverage, fail_under):
        why = "" if points else ", because nothing was measured"
        terminalreporter.line(f"FAIL: below --perago-cover-fail-under={fail_under:g}{why}", red=True)


def task_lines(task: TaskCover) -> Iterator[str]:
    """Yield the lines of a task: its gaps with their fixes, its guardrails, its files."""
    yield f"{task.task} ({task.module})  " + (f"{percent(task.points):.0f} %" if task.points[1] else "nothing to cover")
    if task.files and not task.guardrails:
        yield "  ! no guardrails"
    for guardrail in sorted(task.guardrails, key=lambda rule: not rule.problems):
        yield from _guardrail_lines(guardrail)
    for file in sorted(task.files, key=_has_no_gap):
        yield from _file_lines(file)
    if task.unchecked:
        yield f"    and {task.unchecked} more published files, which were not checked"


_CLOSE = {
    "never satisfied": "add an Example that it accepts",
    "never violated": 'add an Example(expect="{phase}"), or a test with `perago_run`, that it rejects',
    "does not notice the loss of any published file": (
        "name files that the function writes; its input files exist before it runs"
    ),
}
"""The fix of each problem of a guardrail."""


def _guardrail_lines(guardrail: GuardrailCover) -> Iterator[str]:
    problems = guardrail.problems
    yield f"  {'!' if problems else ' '} {guardrail.phase} {guardrail.rule}"
    for problem in problems:
        yield f"      {problem}"
        yield f"      fix: {_CLOSE[problem].format(phase=guardrail.phase)}"
    for word, tests in (("satisfied by", guardrail.satisfied_by), ("violated by", guardrail.violated_by)):
        if tests:  # the test that tells most is first
            ordered = sorted(tests, key=lambda test: (any(kind in test for kind in _GENERATED), test))
            is_short = any(kind in ordered[0] for kind in (*_GENERATED, "::run["))
            first = ordered[0].rpartition("::")[2] if is_short else ordered[0]
            yield f"      {word} {first}" + (f" and {len(ordered) - 1} more" if len(ordered) > 1 else "")


def _has_no_gap(file: FileCover) -> bool:
    covered, points = file.points
    return covered == points and not file.raised and file.empty is not None


def _file_lines(file: FileCover) -> Iterator[str]:
    verdicts = {True: "yes", False: "no", None: "-"}
    mark = " " if _has_no_gap(file) else "!"
    noticed = f"absent {_ABSENT[file.absent]}, empty {verdicts[file.empty]}, cut off {verdicts[file.truncated]}"
    unguarded = "; no guardrail notices its loss" if file.is_unguarded else ""
    yield f"  {mark} file {file.path} ({file.example}): noticed if {noticed}{unguarded}"
    if file.empty is None:
        yield "      the function publishes it without any content"
        yield "      fix: write it and close it before the function returns, unless it is meant to be empty"
    for raised in file.raised:
        yield f"      {raised}"
    if file.raised:
        yield "      fix: let the guardrail return a message for such a file, because an exception explains less"
    elif file.absent == "no":
        yield f"      fix: add require_file({file.path!r}) to post"
    elif mark == "!" and file.empty is not None:
        is_table = suffix_of(file.path) in (*DELIMITERS, PARQUET)
        rows = f"add require_table({file.path!r}, min_rows=...) to post" if is_table else ""
        own = "add to post a @guardrail function that reads the file and returns a message if its end is missing"
        yield f"      fix: {f'{rows}, or ' if rows else ''}{own}"


# -------------------------------------------------------------------------------------- the plugin

_ENDED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


class CoverPlugin:
    """The hooks that are registered if coverage is requested."""

    def __init__(self, options: CoverOptions) -> None:
        self._options = options
        self._error = ""

    @pytest.hookimpl(wrapper=True, trylast=True)  # the last, so that pytest captures what child processes print
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """After the test of a case has passed, find the published files that no guardrail requires."""
        yield
        if not isinstance(item, CaseItem) or item.task is None or item.case.declared is None:
            return
        task = item.task
        try:
            case, _ = read_case(item.case.declared)
            if case.expect != "completed":
                return
            files, unchecked = covered_files(task, case, session_of(item.config).watch())
        except (TimeLimitExceeded, CaseFailed):
            return  # it passed a moment ago, and its `run` test is the one to say so
        covered = _covered_files_of(item.config)
        known, others = covered.get((task.module, task.name), ([], 0))
        covered[task.module, task.name] = [*known, *files], others + unchecked

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the file, and fail a run that is below the threshold."""
        coverage = coverage_of(session.config)
        if coverage is None or session.exitstatus not in _ENDED:
            return
        if self._options.json is not None:
            try:
                self._options.json.write_text(json.dumps(coverage.as_json(), indent=2) + "\n", encoding="utf-8")
            except OSError as error:
                self._error = f"--perago-cover-json: {error}"
        below = _is_below(coverage, self._options.fail_under)
        if (below or self._error) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        """Print the table."""
        coverage = coverage_of(config)
        if coverage is not None:
            summarize(terminalreporter, coverage, self._options.fail_under)
            if self._options.json is not None:
                terminalreporter.line(self._error or f"written to {self._options.json}")
