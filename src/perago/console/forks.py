"""The forks of a workflow: their branches as lanes beside each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perago.console.links import Link, link
from perago.console.source import Json
from perago.console.text import Shown, StatusView, duration, line, plural, status_view

_MOST_FORKS = 20
_MOST_LANES = 100
_MOST_STEPS = 50
"""Of one lane."""


@dataclass(frozen=True, slots=True)
class LaneStep:
    """A step of a branch, with its newest attempt and what it published. One that has not been scheduled leads
    nowhere."""

    reference: Link
    task_type: Shown
    """Empty where it says no more than the reference name."""
    status: StatusView
    words: str
    published: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Lane:
    """One branch: its steps, and the forks inside of it. `more` are not shown."""

    parts: tuple[LaneStep | ForkView, ...]
    more: int


@dataclass(frozen=True, slots=True)
class ForkView:
    """A fork and the lanes of its branches. `more` are not shown."""

    reference: Shown
    lanes: tuple[Lane, ...]
    more: int


@dataclass(frozen=True, slots=True)
class Forks:
    """The newest forks of a workflow, oldest first; `earlier` are not shown."""

    shown: tuple[ForkView, ...]
    earlier: int


def forks_of(tasks: Sequence[Json], url_of: Callable[[Json], str], published: Mapping[str, tuple[Link, ...]]) -> Forks:
    """The forks of a workflow; a fork in a branch of another is part of that.

    What the branches are is read from the rows of the forks themselves, as Conductor scheduled them.

    Args:
        tasks: All attempts of the workflow.
        url_of: Where an attempt is shown.
        published: The commits of an attempt, by its task id.
    """
    found = _Reader(tasks, url_of, published).run()
    return Forks(found[-_MOST_FORKS:], max(0, len(found) - _MOST_FORKS))


class _Reader:
    def __init__(
        self, tasks: Sequence[Json], url_of: Callable[[Json], str], published: Mapping[str, tuple[Link, ...]]
    ) -> None:
        self._attempts: dict[str, list[Json]] = {}
        for task in tasks:
            self._attempts.setdefault(task["referenceTaskName"], []).append(task)
        self._url_of = url_of
        self._published = published
        self._inside: set[str] = set()
        """References of forks that are part of a lane."""

    def run(self) -> tuple[ForkView, ...]:
        forks = [rows[-1] for rows in self._attempts.values() if rows[-1]["taskType"] == "FORK"]
        views = [(row["referenceTaskName"], self._fork(row)) for row in forks]
        return tuple(view for reference, view in views if reference not in self._inside)

    def _fork(self, row: Json) -> ForkView:
        branches = _branches(row)
        lanes = tuple(self._lane(branch, _suffix(row)) for branch in branches[:_MOST_LANES])
        return ForkView(line(row["referenceTaskName"]), lanes, max(0, len(branches) - _MOST_LANES))

    def _lane(self, branch: Sequence[Mapping[str, Any]], suffix: str) -> Lane:
        parts = tuple(self._parts(branch, suffix, only_scheduled=False))
        return Lane(parts[:_MOST_STEPS], max(0, len(parts) - _MOST_STEPS))

    def _parts(
        self, steps: Sequence[Mapping[str, Any]], suffix: str, *, only_scheduled: bool
    ) -> Iterator[LaneStep | ForkView]:
        """Joins are left out. Behind a switch come the steps of the case that it took, behind a loop its last round."""
        for step in steps:
            name = str(step["taskReferenceName"])
            reference = name + suffix if name + suffix in self._attempts else name
            rows = self._attempts.get(reference, [])
            if rows and rows[-1]["taskType"] == "FORK":
                self._inside.add(reference)
                yield self._fork(rows[-1])
            elif (rows or not only_scheduled) and step.get("type") != "JOIN":
                yield self._step(reference, str(step.get("name", "")), rows)
            for case in (*(step.get("decisionCases") or {}).values(), step.get("defaultCase") or ()):
                yield from self._parts(case, suffix, only_scheduled=True)
            if rows and step.get("loopOver"):
                yield from self._parts(step["loopOver"], f"__{rows[-1]['iteration']}", only_scheduled=True)

    def _step(self, reference: str, name: str, rows: Sequence[Json]) -> LaneStep:
        task_type = line("" if name == reference else name)
        if not rows:
            return LaneStep(link(reference), task_type, StatusView("to come", "wait"), "", ())
        last = rows[-1]
        spent = duration(last["endTime"] - last["startTime"]) if last["endTime"] and last["startTime"] else ""
        tries = plural(len(rows), "attempt") if len(rows) > 1 else ""
        return LaneStep(
            reference=link(reference, self._url_of(last)),
            task_type=task_type,
            status=status_view(last["status"]),
            words=", ".join(part for part in (spent, tries) if part),
            published=tuple(commit for row in rows for commit in self._published.get(row["taskId"], ())),
        )


def _branches(row: Json) -> Sequence[Sequence[Mapping[str, Any]]]:
    """The steps of each branch. Those of a dynamic fork are in its input: one step for each branch."""
    declared = row.get("workflowTask", {})
    if declared.get("type") == "FORK_JOIN_DYNAMIC":
        return [[step] for step in row.get("inputData", {}).get("forkedTaskDefs") or ()]
    found: Sequence[Sequence[Mapping[str, Any]]] = declared.get("forkTasks") or ()
    return found


def _suffix(row: Json) -> str:
    """What Conductor puts behind the names of a fork and of its steps in one round of a loop."""
    reference, declared = row["referenceTaskName"], row.get("workflowTask", {}).get("taskReferenceName")
    return str(reference[len(declared) :]) if declared and reference.startswith(declared) else ""
