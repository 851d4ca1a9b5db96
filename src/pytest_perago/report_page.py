"""The page of a run: one file, no network, no scripts. Colours follow the reader's light or dark mode, and every
colour has a word or a sign beside it."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

import perago
from perago.workspace.text import count
from pytest_perago.kinds import KINDS
from pytest_perago.markup import Markup, joined, table, tag
from pytest_perago.report_cover import guardrails
from pytest_perago.report_style import STYLE

if TYPE_CHECKING:
    from pytest_perago.report import Run, TestResult
    from pytest_perago.report_tasks import TaskFacts

_SLOWEST = 20
_MOST_FAILURES = 500
_SIGNS = {"passed": "✓", "failed": "✗", "error": "!", "skipped": "–"}
_WORDS = {"passed": "passed", "failed": "failed", "error": "errors", "skipped": "skipped"}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(run: Run) -> str:
    """The whole document."""
    results = sorted(run.results.values(), key=lambda result: result.nodeid)
    failures = [result for result in results if result.outcome in ("failed", "error")]
    sections = (
        ("tasks", "Tasks", _tasks(run.tasks, results)),
        ("failures", "Failures", _failures(failures)),
        ("taskdefs", "TaskDef differences", _changes(failures)),
        ("guardrails", "Guardrails", guardrails(run.tasks, run.coverage)),
        ("examples", "Examples", _examples(run.tasks, results)),
        ("slowest", "Slowest tests", _slowest(results)),
        ("left-out", "Left out", _left_out(results, run.unused)),
    )
    shown = [(anchor, title, body) for anchor, title, body in sections if body]
    links = [tag("a", title, href=f"#{anchor}") for anchor, title, _ in shown]
    content = [
        tag("header", _title(run, results), tag("nav", links)),
        tag("main", [tag("section", tag("h2", title), body, id=anchor) for anchor, title, body in shown]),
        tag("footer", _versions()),
    ]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"perago: {run.title}"),
        tag("style", Markup(STYLE)),
    ]
    return f"<!doctype html>\n{tag('html', tag('head', head), tag('body', content), lang='en')}\n"


def _title(run: Run, results: Sequence[TestResult]) -> Iterator[Markup]:
    counts = Counter(result.outcome for result in results)
    words = [
        tag("li", f"{_SIGNS[outcome]} {counts[outcome]:,} {word}", class_=outcome)
        for outcome, word in _WORDS.items()
        if counts[outcome] or outcome == "passed"
    ]
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run.started))
    yield tag("h1", run.title)
    yield tag("p", f"tests of {count(len(run.tasks), 'task')}, {when}, {run.seconds:.1f} s")
    yield tag("ul", words, class_="counts")
    if run.incomplete:
        yield tag("p", f"Incomplete: {run.incomplete}", class_="notice")


def _versions() -> str:
    return f"perago {perago.__version__}, pytest {pytest.__version__}, Python {platform.python_version()}"


# ----------------------------------------------------------------------------------------------- sections


def _tasks(tasks: Sequence[TaskFacts], results: Sequence[TestResult]) -> Markup | None:
    """A row for each task, a column for each kind."""
    cells: dict[tuple[str, str], list[TestResult]] = {}
    for result in results:
        for name in result.tasks or ("",):
            cells.setdefault((name, result.kind), []).append(result)
    kinds = [kind for kind in (*KINDS, "import", "own") if any(key[1] == kind for key in cells)]
    names = sorted({*(task.name for task in tasks), *(name for name, _ in cells)}, key=lambda name: (not name, name))
    if not names:
        return tag("p", "No test of this run has to do with a task.")
    facts = {task.name: task for task in tasks}
    heads = ["Task", *("own tests" if kind == "own" else kind for kind in kinds)]
    rows = [[_task(name, facts), *(_cell(cells.get((name, kind), [])) for kind in kinds)] for name in names]
    return table(heads, rows)


def _task(name: str, facts: Mapping[str, TaskFacts]) -> Markup:
    task = facts.get(name)
    if task is None:
        return tag("th", name or "tests that ran no task", scope="row")
    never = tag("span", "its function never ran", class_="weak") if not task.ran else None
    return tag("th", name, tag("small", f"{task.module}, {task.place}", never and ", ", never), scope="row")


def _cell(found: Sequence[TestResult]) -> Markup:
    if not found:
        return tag("td", "", class_="none")
    counts = Counter(result.outcome for result in found)
    worst = next(outcome for outcome in ("failed", "error", "skipped", "passed") if counts[outcome])
    sign = _SIGNS[worst]
    if worst in ("failed", "error"):
        first = next(result for result in found if result.outcome == worst)
        text: Markup | str = tag("a", f"{sign} {counts[worst]} of {len(found)}", href=f"#{_anchor(first)}")
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
    return "test-" + "".join(each if each.isalnum() else f"-{ord(each):x}-" for each in result.nodeid)


def _changes(failures: Sequence[TestResult]) -> Markup | None:
    rows = []
    for result in failures:
        for change in result.changes:
            impact, _, text = change.partition(": ")
            rows.append([", ".join(result.tasks), tag("td", impact, class_=impact), tag("code", text)])
    return table(["Task", "For running workflows", "Change"], rows) if rows else None


def _examples(tasks: Sequence[TaskFacts], results: Sequence[TestResult]) -> Markup | None:
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
                _outcome(outcomes.get((task.name, name))),
            ]
            for name, params, tree, expect, result in task.examples
        ]
        if rows:
            parts += [tag("h3", task.name), tag("p", task.description) if task.description else Markup()]
            parts.append(table(["Example", "Params", "Tree", "Expected", "Result", "Run"], rows))
    return joined(parts) if parts else None


def _outcome(result: TestResult | None) -> Markup:
    if result is None:
        return tag("td", "not run", class_="none")
    text = f"{_SIGNS[result.outcome]} {result.outcome}, {_duration(result.seconds)}"
    failed = result.outcome in ("failed", "error")
    return tag("td", tag("a", text, href=f"#{_anchor(result)}") if failed else text, class_=result.outcome)


def _slowest(results: Sequence[TestResult]) -> Markup | None:
    slow = sorted(results, key=lambda result: -result.seconds)[:_SLOWEST]
    rows = [[_duration(result.seconds), tag("code", result.nodeid), result.outcome] for result in slow]
    return table(["Time", "Test", "Outcome"], rows) if rows else None


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"


def _left_out(results: Sequence[TestResult], unused: Sequence[str]) -> Markup | None:
    rows = [[tag("code", result.nodeid), result.skipped] for result in results if result.outcome == "skipped"]
    parts = [table(["Skipped test", "Reason"], rows)] if rows else []
    if unused:
        parts.append(tag("ul", [tag("li", f"unused: {line}") for line in unused]))
    return joined(parts) if parts else None
