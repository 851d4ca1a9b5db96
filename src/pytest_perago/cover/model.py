"""What coverage of guardrails is: which verdicts were seen, which published files would be missed, and the percentage.

A point is one thing that should be: each guardrail was satisfied in one test and violated in another, each guardrail
that requires files notices the loss of one that an example publishes, and each published file is missed by a guardrail
if it is absent, empty or cut off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

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
