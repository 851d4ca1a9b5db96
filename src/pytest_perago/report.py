"""`--perago-report`: collect the results of all workers, and write one HTML page, without network or scripts.

The page is made from `report.html`. Colors follow the reader's light or dark mode, and every color has a word or a sign
next to it. Names of tests, messages and contents of files are text, never markup.
"""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined

import perago
from perago.atomic_file import replace_file
from perago.settings.sources import read_sources
from perago.text import DEFAULT_ZONE, count, duration, use_zone, visible, zoned
from perago.trees.cases import CaseFailed
from pytest_perago.collection import CaseItem
from pytest_perago.cover import Coverage, coverage_of
from pytest_perago.kinds import KINDS
from pytest_perago.options import HARNESS_ERROR, OPT_OUT, kinds_of, loaded, record_of, rerun_command

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
    kinds: Iterable[str] = tuple(KINDS)
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
        known = _test_facts(item)
        if known is not None:
            if report.failed and call.excinfo is not None:
                known |= _failure_facts(call.excinfo.value, item)
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
        run.kinds = kinds_of(config)
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


def _test_facts(item: pytest.Item) -> dict[str, Any] | None:
    """The addition to the report of a test; None: it is unrelated to tasks."""
    if isinstance(item, CaseItem):
        kind, _, label = item.name.partition("[")
        tasks = [item.task.name] if item.task else []
        return {"kind": kind, "label": label.removesuffix("]"), "tasks": tasks}
    if not any(name.startswith("perago_") for name in getattr(item, "fixturenames", ())):
        return None
    outcomes = loaded("testing.outcome")
    log = outcomes.attempt_log() if outcomes is not None else None
    recent = {outcome.delivery.task_name for outcome in log.outcomes} if log else set()
    tasks = sorted(recent | {name for _, name, *_ in log.tried} if log else recent)  # a race keeps only its trials
    return {"kind": "own", "label": "", "tasks": tasks}


def _failure_facts(error: BaseException, item: pytest.Item) -> dict[str, Any]:
    if not isinstance(error, CaseFailed):
        return {"rerun": rerun_command(item)}
    lines = [line for block in error.details for line in block.splitlines()]
    changes = [line for line in lines if line.startswith(("breaking: ", "compatible: "))]
    return {"summary": error.headline, "rerun": error.rerun or rerun_command(item), "changes": changes}


# -------------------------------------------------------------------------------------------- the page

_SLOWEST = 20
_MOST_FAILURES = 500
_SIGNS = {"passed": "✓", "failed": "✗", "error": "!", "skipped": "–"}
_OUTCOME_NOUNS = {"passed": "passed", "failed": "failed", "error": "errors", "skipped": "skipped"}


def page(run: Run) -> str:
    """Return the complete document."""
    with suppress(ValueError):  # an invalid setting fails elsewhere, and the report still names its zone
        use_zone(read_sources().values.get("PERAGO_TIME_ZONE", DEFAULT_ZONE))
    tasks = [task for task in run.coverage.tasks if task.has_tests]
    tasks.sort(key=lambda task: (task.task, task.module))
    results = sorted(run.results.values(), key=lambda result: result.nodeid)
    is_covered = run.has_cover and any(task.guardrails or task.files for task in run.coverage.tasks)
    cells: dict[tuple[str, str], list[TestResult]] = {}
    for result in results:
        for name in result.tasks or ("",):
            cells.setdefault((name, result.kind), []).append(result)
    return (
        _environment()
        .get_template("report.html")
        .render(
            run=run,
            tasks=tasks,
            facts={task.task: task for task in tasks},
            names=sorted(
                {*(task.task for task in tasks), *(name for name, _ in cells)}, key=lambda name: (not name, name)
            ),
            kinds=[kind for kind in (*run.kinds, "import", "own") if any(key[1] == kind for key in cells)],
            cells=cells,
            failures=[result for result in results if result.outcome in ("failed", "error")],
            most_failures=_MOST_FAILURES,
            is_covered=is_covered,
            rules=[
                (task.task, rule) for task in (run.coverage.tasks if is_covered else tasks) for rule in task.guardrails
            ],
            outcomes={
                (name, result.label): result for result in results if result.kind == "run" for name in result.tasks
            },
            slowest=sorted(results, key=lambda result: -result.seconds)[:_SLOWEST],
            skipped=[result for result in results if result.outcome == "skipped"],
            counts=Counter(result.outcome for result in results),
            started=zoned(round(run.started * 1000)),
            versions=f"perago {perago.__version__}, pytest {pytest.__version__}, Python {platform.python_version()}",
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,  # no `Markup`, which is visible already
    )
    environment.globals |= {"signs": _SIGNS, "words": _OUTCOME_NOUNS, "cell": _cell}
    environment.filters |= {"anchor": _anchor, "duration": duration, "plural": count}
    return environment


def _cell(results: Sequence[TestResult]) -> tuple[str, str, TestResult | None]:
    """Return the worst outcome, a text for all, and the failed test that a cell links to."""
    counts = Counter(result.outcome for result in results)
    worst = min(counts, key=_WORST.index)
    if worst in ("failed", "error"):
        failure = next(result for result in results if result.outcome == worst)
        return worst, f"{_SIGNS[worst]} {counts[worst]} of {len(results)}", failure
    skipped = f"{counts['skipped']} skipped" if counts["skipped"] else ""
    return worst, f"{_SIGNS[worst]} {', '.join(filter(None, (str(counts['passed'] or ''), skipped)))}", None


def _anchor(result: TestResult) -> str:
    """Return the node id as a fragment without blanks."""
    return "test-" + "".join(char if char.isalnum() else f"-{ord(char):x}-" for char in result.nodeid)
