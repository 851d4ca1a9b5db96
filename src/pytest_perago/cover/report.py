"""The table of `--perago-cover` in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pytest_perago.cover.model import Coverage, FileCover, GuardrailCover, TaskCover, percent

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
