"""The section on guardrails: verdicts that were seen and, with `--perago-cover`, published files that none guards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_perago.markup import Markup, joined, table, tag

if TYPE_CHECKING:
    from pytest_perago.cover.model import Coverage, FileCover, GuardrailCover
    from pytest_perago.report_tasks import TaskFacts

_ABSENT = {"alone": True, "with others": True, "no": False}


def guardrails(tasks: Sequence[TaskFacts], coverage: Coverage | None) -> Markup | None:
    """The section; None if no task has guardrails."""
    if coverage is not None and any(task.guardrails or task.files for task in coverage.tasks):
        return _covered(coverage)
    rows = [
        [task.name, phase, tag("code", rule), _seen(satisfied), _seen(violated)]
        for task in tasks
        for phase, rule, satisfied, violated in task.guardrails
    ]
    if not rows:
        return None
    note = "A guardrail is tried if attempts of this run have satisfied and violated it."
    hint = ["Run with ", tag("code", "--perago-cover"), " to see which published files no guardrail would miss."]
    return joined(
        [tag("p", note), table(["Task", "Phase", "Guardrail", "Satisfied", "Violated"], rows), tag("p", hint)]
    )


def _covered(coverage: Coverage) -> Markup:
    covered, points = coverage.points
    rules = [
        [
            task.task,
            rule.phase,
            tag("code", rule.rule),
            _tests(rule.satisfied_by),
            _tests(rule.violated_by),
            _problems(rule),
        ]
        for task in coverage.tasks
        for rule in task.guardrails
    ]
    files = [
        [task.task, tag("code", file.path), file.example, *map(_noticed, _damages(file)), _guards(file)]
        for task in coverage.tasks
        for file in task.files
    ]
    unlooked = sum(task.unlooked for task in coverage.tasks)
    return joined(
        [
            tag("p", f"Coverage: {covered} of {points} points, {coverage.percent:.1f} %."),
            table(["Task", "Phase", "Guardrail", "Satisfied by", "Violated by", "Problem"], rules) if rules else None,
            tag("h3", "Published files: what would be noticed if one was damaged") if files else None,
            table(["Task", "File", "Example", "Absent", "Empty", "Cut off", "Noticed by"], files) if files else None,
            tag("p", f"and {unlooked:,} more files, which were not looked at") if unlooked else None,
        ]
    )


def _damages(file: FileCover) -> tuple[bool | None, ...]:
    return _ABSENT[file.absent], file.empty, file.truncated


def _noticed(noticed: bool | None) -> Markup:
    if noticed is None:
        return tag("td", "–", class_="none")
    return tag("td", "✓ yes" if noticed else "✗ no", class_="passed" if noticed else "failed")


def _guards(file: FileCover) -> Markup:
    if file.is_unguarded:
        return tag("td", "✗ no guardrail misses it", class_="failed")
    return tag("td", [tag("code", rule, " ") for rule in file.noticed_by])


def _tests(tests: Sequence[str]) -> Markup:
    if not tests:
        return _seen(seen=False)
    more = f" and {len(tests) - 1} more" if len(tests) > 1 else ""
    return tag("td", "✓ ", tag("code", tests[0]), more)


def _problems(rule: GuardrailCover) -> Markup:
    problems = rule.problems
    return tag("td", "; ".join(problems), class_="failed" if problems else None)


def _seen(seen: bool) -> Markup:
    return tag("td", "✓ yes" if seen else "✗ never", class_="passed" if seen else "failed")
