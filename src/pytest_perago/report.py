"""`--perago-report`: collect the results of all workers, and write the page at the end."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from perago.atomic_file import replace_file
from perago.authoring import Example, Task
from perago.testing.failures import CaseFailed
from perago.testing.published import rendered
from perago.text import json_text
from pytest_perago.collection import CaseItem
from pytest_perago.kinds.guardrail import phases_of
from pytest_perago.options import COVERAGE, HARNESS_ERROR, OPT_OUT, UNUSED, rerun_command

if TYPE_CHECKING:
    from pytest_perago.cover import Coverage


_MOST_LINES = 40


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """A task in plain values that go through JSON."""

    name: str
    module: str
    place: str
    description: str
    ran: bool
    """Whether an attempt called its function."""
    guardrails: Sequence[Sequence[Any]]
    """Phase, rule, and whether an attempt satisfied and violated it."""
    examples: Sequence[Sequence[str]]
    """Id, params, tree, expectation and result, as texts."""

    def as_json(self) -> dict[str, Any]:
        """Itself as a mapping."""
        return asdict(self)


def facts_of(tasks: Iterable[Task]) -> tuple[TaskFacts, ...]:
    """Of each task once, by name."""
    services = sys.modules.get("perago.testing.services")
    tried: set[tuple[str, ...]] = services.TRIED if services is not None else set()
    known = {(task.name, task.module): task for task in tasks}
    return tuple(_facts(task, tried) for _, task in sorted(known.items()))


def merged(of_workers: Sequence[tuple[TaskFacts, ...]]) -> tuple[TaskFacts, ...]:
    """What all processes know: something was seen if one of them has seen it."""
    by_key: dict[tuple[str, str], list[TaskFacts]] = {}
    for facts in of_workers:
        for task in facts:
            by_key.setdefault((task.name, task.module), []).append(task)
    return tuple(_united(same) for _, same in sorted(by_key.items()))


def _united(same: Sequence[TaskFacts]) -> TaskFacts:
    first = same[0]
    rules = [
        [phase, rule, any(each.guardrails[index][2] for each in same), any(each.guardrails[index][3] for each in same)]
        for index, (phase, rule, *_) in enumerate(first.guardrails)
    ]
    values = first.as_json() | {"guardrails": rules, "ran": any(each.ran for each in same)}
    return TaskFacts(**values)


def _facts(task: Task, tried: set[tuple[str, ...]]) -> TaskFacts:
    key = (task.module, task.name)
    rules = [
        [phase, str(rule), *((*key, phase, str(rule), verdict) in tried for verdict in ("satisfied", "violated"))]
        for phase, phase_rules in phases_of(task)
        for rule in phase_rules
    ]
    return TaskFacts(
        name=task.name,
        module=task.module,
        place=f"{Path(task.file).name}:{task.line}",
        description=task.description or "",
        ran=(*key, "function") in tried,
        guardrails=rules,
        examples=[_example(example) for example in task.examples],
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


_ATTRIBUTE = "perago_report"
"""Where a report carries what is known of its test; pytest-xdist brings it along."""

_OUTPUT = "perago_report"
_LONGEST_TEXT = 20_000
_WORST = ("failed", "error", "skipped", "passed")


@dataclass(slots=True)
class TestResult:
    """One test of the run. `kind` is `own` for a test that was written; `tasks` are the names of what it ran."""

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
    """Of a TaskDef and its snapshot, each with its class before a colon."""
    skipped: str = ""
    """Why."""


@dataclass(slots=True)
class Run:
    """All that the page tells."""

    title: str
    started: float
    seconds: float = 0.0
    results: dict[str, TestResult] = field(default_factory=dict)
    tasks: tuple[TaskFacts, ...] = ()
    unused: tuple[str, ...] = ()
    coverage: Coverage | None = None
    """What `--perago-cover` has found."""
    incomplete: str = ""
    """Why something may be missing; empty for nothing."""


def check_target(config: pytest.Config) -> Path:
    """The file to write.

    Raises:
        pytest.UsageError: it cannot be one.
    """
    text = str(config.getoption("--perago-report"))
    path = Path(os.path.abspath(config.invocation_params.dir / text))  # noqa: PTH100 - no links are resolved
    if not text.strip() or path.is_dir():
        raise pytest.UsageError(
            f"--perago-report: {text!r} is a directory; give the name of a file, such as report.html"
        )
    return path


class ReportPlugin:
    """Hears all of a run. On a worker of pytest-xdist it only passes on what the controller cannot know."""

    def __init__(self, config: pytest.Config) -> None:
        self._path = check_target(config)
        self._run = Run(config.rootpath.name, time.time())
        self._of_workers: list[tuple[TaskFacts, ...]] = []
        self._problem = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Tell what is known of a test where it runs."""
        report = yield
        known = _known(item)
        if known is not None:
            if report.failed and call.excinfo is not None:
                known |= _told(call.excinfo.value, item)
            setattr(report, _ATTRIBUTE, known)
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what matters of it."""
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
        properties = [tuple(each) for each in report.user_properties]
        outcome = (
            "error" if report.failed and (report.when != "call" or HARNESS_ERROR in properties) else report.outcome
        )
        if outcome not in _WORST:  # "rerun": what follows counts
            result.outcome = "passed"
            return
        result.outcome = min(result.outcome, outcome, key=_WORST.index)
        if report.failed:
            result.summary = known.get("summary", "") or _headline(report)
            result.rerun, result.changes = known.get("rerun", ""), tuple(known.get("changes", ()))
            result.text = report.longreprtext.removesuffix(f"\nrerun: {result.rerun}")[:_LONGEST_TEXT]
        if report.skipped:
            reasons = [str(value) for name, value in properties if name == OPT_OUT]
            result.skipped = reasons[0] if reasons else _skip_reason(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take what a worker knows of the tasks."""
        told = getattr(node, "workeroutput", {}).get(_OUTPUT) if not error else None
        if told is None:
            self._run.incomplete = "A worker of pytest-xdist ended early: what it has tried is missing."
        else:
            self._of_workers.append(tuple(TaskFacts(**each) for each in json.loads(told)))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the page; on a worker tell the controller."""
        config = session.config
        here = facts_of(item.task for item in getattr(session, "items", ()) if isinstance(item, CaseItem) and item.task)
        if hasattr(config, "workeroutput"):
            config.workeroutput[_OUTPUT] = json.dumps([each.as_json() for each in here])
            return
        run = self._run
        run.tasks = merged(self._of_workers or [here])
        run.seconds = time.time() - run.started
        unused = config.stash.get(UNUSED, ())
        run.unused = tuple(unused)
        run.coverage = config.stash.get(COVERAGE, None)
        if session.shouldstop or session.shouldfail:
            run.incomplete = "The run was stopped before its end."
        from pytest_perago.report_page import page

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._path, page(run).encode("utf-8", "replace"))
        except OSError as error:
            self._problem = error.strerror or str(error)
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say where it is."""
        path = os.path.relpath(self._path)
        if self._problem:
            terminalreporter.line(f"perago report: {path} could not be written: {self._problem}", red=True)
        else:
            terminalreporter.write_sep("-", f"perago report: {path}")


def _known(item: pytest.Item) -> dict[str, Any] | None:
    """What the report of a test says beside pytest's own; None: it has nothing to do with tasks."""
    if isinstance(item, CaseItem):
        kind, _, label = item.name.partition("[")
        tasks = [item.task.name] if item.task else []
        return {"kind": kind, "label": label.removesuffix("]"), "tasks": tasks}
    if not any(name.startswith("perago_") for name in getattr(item, "fixturenames", ())):
        return None
    outcomes = sys.modules.get("perago.testing.outcome")
    recent = outcomes.RECENT if outcomes is not None else ()
    tasks = sorted({outcome.record.delivery.task_name for outcome in recent})
    return {"kind": "own", "label": "", "tasks": tasks}


def _told(error: BaseException, item: pytest.Item) -> dict[str, Any]:
    if not isinstance(error, CaseFailed):
        return {"rerun": rerun_command(item)}
    lines = [line for block in error.details for line in block.splitlines()]
    changes = [line for line in lines if line.startswith(("breaking: ", "compatible: "))]
    return {"summary": error.headline, "rerun": error.rerun or rerun_command(item), "changes": changes}


def _headline(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message) if crash is not None else report.longreprtext.strip().rpartition("\n")[2]
    return text.partition("\n")[0]


def _skip_reason(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    return str(reason).removeprefix("Skipped: ")
