"""`--perago-report`: collect the results of all workers, and write one HTML page, without network or scripts.

Colors follow the reader's light or dark mode, and every color has a word or a sign next to it. Names of tests,
messages and contents of files are text, never markup.
"""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

import pytest

import perago
from perago.atomic_file import replace_file
from perago.testing.tasks import CaseFailed
from perago.text import count, duration, visible
from pytest_perago.collection import CaseItem
from pytest_perago.cover import Coverage, FileCover, GuardrailCover, TaskCover, coverage_of
from pytest_perago.kinds import KINDS
from pytest_perago.options import HARNESS_ERROR, OPT_OUT, loaded, record_of, rerun_command

_ATTRIBUTE = "perago_report"
"""The attribute of a report with the facts about its test; pytest-xdist transports it."""

_LONGEST_TEXT = 20_000
_WORST = ("failed", "error", "skipped", "passed")


@dataclass(slots=True)
class TestResult:
    """One test of the run. `kind` is `own` for a written test. `tasks` has the names of the tasks that it ran."""

    __test__ = False  # pytest

    nodeid: str
    kind: str
    label: str
    tasks: tuple[str, ...]
    outcome: str = "passed"
    seconds: float = 0.0
    summary: str = ""
    text: str = ""
    rerun: str = ""
    changes: tuple[str, ...] = ()
    """The differences between a TaskDef and its snapshot, each with its impact before a colon."""
    skipped: str = ""
    """The reason of a skipped test."""


@dataclass(slots=True)
class Run:
    """All data of the page."""

    title: str
    started: float
    seconds: float = 0.0
    results: dict[str, TestResult] = field(default_factory=dict)
    coverage: Coverage = field(default_factory=lambda: Coverage([]))
    """The tasks, and their coverage by tests."""
    has_cover: bool = False
    """Whether `--perago-cover` was given."""
    unused: tuple[str, ...] = ()
    incomplete: str = ""
    """The reason why the report can be incomplete. Empty: it is complete."""


def check_target(config: pytest.Config) -> Path:
    """The file to write.

    Raises:
        pytest.UsageError: the path cannot be a file.
    """
    text = str(config.getoption("--perago-report"))
    path = Path(os.path.abspath(config.invocation_params.dir / text))  # noqa: PTH100 - no links are resolved
    if not text.strip() or path.is_dir():
        problem = f"{text!r} is a directory; give the name of a file, such as report.html"
        raise pytest.UsageError(f"--perago-report: {problem}")
    return path


class ReportPlugin:
    """Collects the reports of a run. On a worker of pytest-xdist it only adds the facts that the controller lacks."""

    def __init__(self, config: pytest.Config) -> None:
        self._path = check_target(config)
        self._run = Run(config.rootpath.name, time.time())
        self._problem = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add the local knowledge about a test to its report."""
        report = yield
        known = _known(item)
        if known is not None:
            if report.failed and call.excinfo is not None:
                known |= _told(call.excinfo.value, item)
            setattr(report, _ATTRIBUTE, known)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the relevant parts."""
        known: Mapping[str, Any] = getattr(report, _ATTRIBUTE, {})
        results = self._run.results
        if known:
            new = TestResult(report.nodeid, known["kind"], known["label"], tasks=())
            result = results.setdefault(report.nodeid, new)
            result.tasks = tuple(dict.fromkeys((*result.tasks, *known["tasks"])))
        elif report.nodeid in results:  # a subtest of it
            result = results[report.nodeid]
        else:
            return
        result.seconds += report.duration
        properties = [tuple(pair) for pair in report.user_properties]
        is_error = report.failed and (report.when != "call" or HARNESS_ERROR in properties)
        outcome = "error" if is_error else report.outcome
        if outcome not in _WORST:  # "rerun": what follows counts
            result.outcome = "passed"
            return
        result.outcome = min(result.outcome, outcome, key=_WORST.index)
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            last = crash.message if crash is not None else report.longreprtext.strip().rpartition("\n")[2]
            result.summary = known.get("summary", "") or str(last).partition("\n")[0]
            result.rerun, result.changes = known.get("rerun", ""), tuple(known.get("changes", ()))
            result.text = report.longreprtext.removesuffix(f"\nrerun: {result.rerun}")[:_LONGEST_TEXT]
        if report.skipped:
            reasons = [str(value) for name, value in properties if name == OPT_OUT]
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            result.skipped = reasons[0] if reasons else str(reason).removeprefix("Skipped: ")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the page, on the controller of pytest-xdist if there is one."""
        config = session.config
        if hasattr(config, "workeroutput"):
            return
        run = self._run
        run.seconds = time.time() - run.started
        record = record_of(config)
        run.unused, run.coverage = record.unused, coverage_of(config) or run.coverage
        run.has_cover = config.pluginmanager.has_plugin("perago-cover")
        if None in (record.outputs or ()):
            run.incomplete = "A worker of pytest-xdist ended early, so its results are missing."
        if session.shouldstop or session.shouldfail:
            run.incomplete = "The run was stopped before its end."
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, page(run).encode("utf-8", "replace"))
        except OSError as error:
            self._problem = error.strerror or str(error)
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the path of the page."""
        path = os.path.relpath(self._path)
        if self._problem:
            terminalreporter.line(f"perago report: {path} could not be written: {self._problem}", red=True)
        else:
            terminalreporter.write_sep("-", f"perago report: {path}")


def _known(item: pytest.Item) -> dict[str, Any] | None:
    """The addition to the report of a test; None: it is unrelated to tasks."""
    if isinstance(item, CaseItem):
        kind, _, label = item.name.partition("[")
        tasks = [item.task.name] if item.task else []
        return {"kind": kind, "label": label.removesuffix("]"), "tasks": tasks}
    if not any(name.startswith("perago_") for name in getattr(item, "fixturenames", ())):
        return None
    outcomes = loaded("outcome")
    log = outcomes.attempt_log() if outcomes is not None else None
    recent = {outcome.delivery.task_name for outcome in log.outcomes} if log else set()
    tasks = sorted(recent | {name for _, name, *_ in log.tried} if log else recent)  # a race keeps only its trials
    return {"kind": "own", "label": "", "tasks": tasks}


def _told(error: BaseException, item: pytest.Item) -> dict[str, Any]:
    if not isinstance(error, CaseFailed):
        return {"rerun": rerun_command(item)}
    lines = [line for block in error.details for line in block.splitlines()]
    changes = [line for line in lines if line.startswith(("breaking: ", "compatible: "))]
    return {"summary": error.headline, "rerun": error.rerun or rerun_command(item), "changes": changes}


# -------------------------------------------------------------------------------------------- the page


class Markup(str):
    """Text that is already HTML. Only this module creates such text."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"
"""Plain text is escaped; None is nothing."""

_EMPTY = {"meta", "br"}


def tag(name: str, /, *children: Child, **attributes: str | None) -> Markup:
    """Return an element. `class_` is the attribute `class`. An attribute that is None is left out."""
    pairs = ((key.strip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    text = "".join(f' {key}="{escape(visible(value))}"' for key, value in pairs)
    if name in _EMPTY:
        return Markup(f"<{name}{text}>")
    return Markup(f"<{name}{text}>{joined(children)}</{name}>")


def joined(children: Child) -> Markup:
    """Join pieces of HTML."""
    if children is None:
        return Markup()
    if isinstance(children, Markup):
        return children
    if isinstance(children, str):
        return Markup(escape(visible(children)))
    return Markup("".join(map(joined, children)))


def table(head: Iterable[Child], rows: Iterable[Iterable[Child]]) -> Markup:
    """Return a table that scrolls if it is wider than the page. A cell can be a `td` or `th` already."""
    titles = tag("tr", [tag("th", title, scope="col") for title in head])
    body = []
    for row in rows:
        cells = [(cell, isinstance(cell, Markup) and cell.startswith(("<td", "<th"))) for cell in row]
        body.append(tag("tr", [cell if is_cell else tag("td", cell) for cell, is_cell in cells]))
    return tag("div", tag("table", tag("thead", titles), tag("tbody", body)), class_="wide")


def _guardrails(run: Run, tasks: Sequence[TaskCover]) -> Markup | None:
    """The verdicts of tests and, with `--perago-cover`, published files; None if no task has guardrails."""
    is_covered = run.has_cover and any(task.guardrails or task.files for task in run.coverage.tasks)
    rows = [
        [task.task, rule.phase, tag("code", rule.rule), *_judged(rule, is_covered=is_covered)]
        for task in (run.coverage.tasks if is_covered else tasks)
        for rule in task.guardrails
    ]
    if is_covered:
        return _covered(run.coverage, rows)
    if not rows:
        return None
    note = "A guardrail is tried if attempts of this run have satisfied and violated it."
    option = tag("code", "--perago-cover")
    hint = ["Run with ", option, " to find published files whose loss no guardrail would notice."]
    rules = table(["Task", "Phase", "Guardrail", "Satisfied", "Violated"], rows)
    return joined([tag("p", note), rules, tag("p", hint)])


def _judged(rule: GuardrailCover, *, is_covered: bool) -> list[Markup]:
    """The cells about the verdicts: with `--perago-cover` the tests, and the problems of the guardrail."""
    if not is_covered:
        return [_noticed(bool(tests), "✗ never") for tests in (rule.satisfied_by, rule.violated_by)]
    problems = tag("td", "; ".join(rule.problems), class_="failed" if rule.problems else None)
    return [_tests(rule.satisfied_by), _tests(rule.violated_by), problems]


def _covered(coverage: Coverage, rules: Sequence[Sequence[Child]]) -> Markup:
    covered, points = coverage.points
    files = [[task.task, *_file(file)] for task in coverage.tasks for file in task.files]
    unlooked = sum(task.unlooked for task in coverage.tasks)
    return joined(
        [
            tag("p", f"Coverage: {covered} of {points} points, {coverage.percent:.1f} %."),
            table(["Task", "Phase", "Guardrail", "Satisfied by", "Violated by", "Problem"], rules) if rules else None,
            tag("h3", "Published files: what would be noticed if one was damaged") if files else None,
            table(["Task", "File", "Example", "Absent", "Empty", "Cut off", "Noticed by"], files) if files else None,
            tag("p", f"and {unlooked:,} more files, which were not checked") if unlooked else None,
        ]
    )


def _file(file: FileCover) -> Iterator[Child]:
    yield tag("code", file.path)
    yield file.example
    yield from map(_noticed, (file.absent != "no", file.empty, file.truncated))
    if file.is_unguarded:
        yield tag("td", "✗ no guardrail notices its loss", class_="failed")
    else:
        yield tag("td", [tag("code", rule, " ") for rule in file.noticed_by])


def _noticed(noticed: bool | None, no: str = "✗ no") -> Markup:
    if noticed is None:
        return tag("td", "–", class_="none")
    return tag("td", "✓ yes" if noticed else no, class_="passed" if noticed else "failed")


def _tests(tests: Sequence[str]) -> Markup:
    if not tests:
        return _noticed(False, "✗ never")
    more = f" and {len(tests) - 1} more" if len(tests) > 1 else ""
    return tag("td", "✓ ", tag("code", tests[0]), more)


_STYLE = Path(__file__).with_name("report.css")
_SLOWEST = 20
_MOST_FAILURES = 500
_SIGNS = {"passed": "✓", "failed": "✗", "error": "!", "skipped": "–"}
_WORDS = {"passed": "passed", "failed": "failed", "error": "errors", "skipped": "skipped"}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(run: Run) -> str:
    """Return the complete document."""
    tasks = [task for task in run.coverage.tasks if task.has_tests]
    tasks.sort(key=lambda task: (task.task, task.module))
    results = sorted(run.results.values(), key=lambda result: result.nodeid)
    failures = [result for result in results if result.outcome in ("failed", "error")]
    slowest = [
        [duration(result.seconds), tag("code", result.nodeid), result.outcome]
        for result in sorted(results, key=lambda result: -result.seconds)[:_SLOWEST]
    ]
    sections = (
        ("tasks", "Tasks", _tasks(tasks, results)),
        ("failures", "Failures", _failures(failures)),
        ("taskdefs", "TaskDef differences", _changes(failures)),
        ("guardrails", "Guardrails", _guardrails(run, tasks)),
        ("examples", "Examples", _examples(tasks, results)),
        ("slowest", "Slowest tests", table(["Time", "Test", "Outcome"], slowest) if slowest else None),
        ("left-out", "Left out", _left_out(results, run.unused)),
    )
    shown = [(anchor, title, body) for anchor, title, body in sections if body]
    links = [tag("a", title, href=f"#{anchor}") for anchor, title, _ in shown]
    versions = f"perago {perago.__version__}, pytest {pytest.__version__}, Python {platform.python_version()}"
    content = [
        tag("header", _title(run, tasks, results), tag("nav", links)),
        tag("main", [tag("section", tag("h2", title), body, id=anchor) for anchor, title, body in shown]),
        tag("footer", versions),
    ]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"perago: {run.title}"),
        tag("style", Markup(_STYLE.read_text("utf-8"))),
    ]
    return f"<!doctype html>\n{tag('html', tag('head', head), tag('body', content), lang='en')}\n"


def _title(run: Run, tasks: Sequence[TaskCover], results: Sequence[TestResult]) -> Iterator[Markup]:
    counts = Counter(result.outcome for result in results)
    counted = [
        tag("li", f"{_SIGNS[outcome]} {counts[outcome]:,} {word}", class_=outcome)
        for outcome, word in _WORDS.items()
        if counts[outcome] or outcome == "passed"
    ]
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run.started))
    yield tag("h1", run.title)
    yield tag("p", f"tests of {count(len(tasks), 'task')}, {when}, {run.seconds:.1f} s")
    yield tag("ul", counted, class_="counts")
    if run.incomplete:
        yield tag("p", f"Incomplete: {run.incomplete}", class_="notice")


# ----------------------------------------------------------------------------------------------- sections


def _tasks(tasks: Sequence[TaskCover], results: Sequence[TestResult]) -> Markup | None:
    """A row for each task, a column for each kind."""
    cells: dict[tuple[str, str], list[TestResult]] = {}
    for result in results:
        for name in result.tasks or ("",):
            cells.setdefault((name, result.kind), []).append(result)
    kinds = [kind for kind in (*KINDS, "import", "own") if any(key[1] == kind for key in cells)]
    names = sorted({*(task.task for task in tasks), *(name for name, _ in cells)}, key=lambda name: (not name, name))
    if not names:
        return tag("p", "No test of this run is about a task.")
    facts = {task.task: task for task in tasks}
    heads = ["Task", *("own tests" if kind == "own" else kind for kind in kinds)]
    rows = [[_task(name, facts), *(_cell(cells.get((name, kind), [])) for kind in kinds)] for name in names]
    return table(heads, rows)


def _task(name: str, facts: Mapping[str, TaskCover]) -> Markup:
    task = facts.get(name)
    if task is None:
        return tag("th", name or "tests that ran no task", scope="row")
    never = tag("span", "its function never ran", class_="weak") if not task.ran else None
    return tag("th", name, tag("small", f"{task.module}, {task.place}", never and ", ", never), scope="row")


def _cell(results: Sequence[TestResult]) -> Markup:
    if not results:
        return tag("td", "", class_="none")
    counts = Counter(result.outcome for result in results)
    worst = min(counts, key=_WORST.index)
    sign = _SIGNS[worst]
    if worst in ("failed", "error"):
        first = next(result for result in results if result.outcome == worst)
        text: Markup | str = tag("a", f"{sign} {counts[worst]} of {len(results)}", href=f"#{_anchor(first)}")
    else:
        skipped = f"{counts['skipped']} skipped" if counts["skipped"] else ""
        text = f"{sign} {', '.join(filter(None, (str(counts['passed'] or ''), skipped)))}"
    return tag("td", text, class_=f"{worst} number")


def _failures(failures: Sequence[TestResult]) -> Markup | None:
    if not failures:
        return None
    shown = [_failure(result) for result in failures[:_MOST_FAILURES]]
    more = len(failures) - _MOST_FAILURES
    return joined([*shown, tag("p", f"and {more:,} more") if more > 0 else None])


def _failure(result: TestResult) -> Markup:
    word = "error of the harness or a fixture" if result.outcome == "error" else ""
    return tag(
        "details",
        tag("summary", tag("code", f"{_SIGNS[result.outcome]} {result.nodeid}"), tag("span", result.summary or word)),
        tag("pre", result.text),
        [tag("p", "Run it again: ", tag("code", result.rerun, class_="command"))] if result.rerun else None,
        id=_anchor(result),
        open="",
    )


def _anchor(result: TestResult) -> str:
    """The node id as a fragment without blanks."""
    return "test-" + "".join(
        character if character.isalnum() else f"-{ord(character):x}-" for character in result.nodeid
    )


def _changes(failures: Sequence[TestResult]) -> Markup | None:
    rows = []
    for result in failures:
        for change in result.changes:
            impact, _, text = change.partition(": ")
            rows.append([", ".join(result.tasks), tag("td", impact, class_=impact), tag("code", text)])
    return table(["Task", "For running workflows", "Change"], rows) if rows else None


def _examples(tasks: Sequence[TaskCover], results: Sequence[TestResult]) -> Markup | None:
    outcomes = {(name, result.label): result for result in results if result.kind == "run" for name in result.tasks}
    parts: list[Markup] = []
    for task in tasks:
        rows = [
            [
                tag("th", name, scope="row"),
                tag("code", params),
                tag("pre", tree),
                expect,
                tag("code", result) if result else "",
                _outcome(outcomes.get((task.task, name))),
            ]
            for name, params, tree, expect, result in task.examples
        ]
        if rows:
            parts += [tag("h3", task.task), tag("p", task.description) if task.description else Markup()]
            parts.append(table(["Example", "Params", "Tree", "Expected", "Result", "Run"], rows))
    return joined(parts) if parts else None


def _outcome(result: TestResult | None) -> Markup:
    if result is None:
        return tag("td", "not run", class_="none")
    text = f"{_SIGNS[result.outcome]} {result.outcome}, {duration(result.seconds)}"
    failed = result.outcome in ("failed", "error")
    return tag("td", tag("a", text, href=f"#{_anchor(result)}") if failed else text, class_=result.outcome)


def _left_out(results: Sequence[TestResult], unused: Sequence[str]) -> Markup | None:
    rows = [[tag("code", result.nodeid), result.skipped] for result in results if result.outcome == "skipped"]
    parts = [table(["Skipped test", "Reason"], rows)] if rows else []
    if unused:
        parts.append(tag("ul", [tag("li", f"unused: {line}") for line in unused]))
    return joined(parts) if parts else None
