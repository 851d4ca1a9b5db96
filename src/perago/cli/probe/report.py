"""What is known about a module after its child process is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Code(StrEnum):
    """Kinds of problems, for programs (docs/cli.md)."""

    INVALID = "invalid-module"
    TIMEOUT = "import-timeout"
    EXIT = "import-exit"
    CRASH = "import-crash"
    DUPLICATE = "duplicate-task"
    EXAMPLE = "invalid-example"
    MISSING = "missing-library"


@dataclass(frozen=True, slots=True)
class ModuleProblem:
    """What is wrong with a module: the kind, what happened, where (`file:line` or empty) and what to do."""

    code: str
    message: str
    where: str = ""
    fix: str = ""
    traceback: str = ""
    is_no_task: bool = False
    """The module is in order and declares no task."""


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """The task that a module declares, in short, and its TaskDef as canonical text."""

    name: str
    workspace: str | None
    """The prefix, `/` for the root; None for a task without a workspace."""
    read_only: bool
    pre: int
    post: int
    definition: str
    declared: Sequence[Mapping[str, Any]] = ()
    """Its examples: `id`, `params` and `tree`, which is a directory, or contents by path: text, `{"base64": ...}`, or
    null for a directory."""
    environment: tuple[str, ...] = ()
    """Patterns for the withheld variables that its function gets."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    """Globs of the files of the workspace that it sees, and of those among them that it does not."""
    missing: tuple[tuple[str, str], ...] = ()
    """What its guardrails need and do not find on this machine, each with the command that installs it."""

    @property
    def examples(self) -> int:
        """How many there are."""
        return len(self.declared)

    @property
    def example(self) -> Mapping[str, Any] | None:
        """The parameters of its first example."""
        return self.declared[0]["params"] if self.declared else None


@dataclass(frozen=True, slots=True)
class Probed:
    """One module: either `task` or `problem`, and what the module left behind."""

    module: str
    task: TaskSummary | None
    problem: ModuleProblem | None
    output: str = ""
    """The end of what it printed at import."""
    printed: int = 0
    """Bytes that it printed in all."""
    left_running: bool = False
    """It started processes that were still there and were stopped."""
    advice: tuple[str, ...] = ()
    """What would make it better, if that was asked for."""
    files: tuple[str, ...] = ()
    """The module's file and those that it imported from below the current directory; empty if there is a problem."""


def from_json(module: str, report: dict[str, Any]) -> Probed:
    """The child's report."""
    if "problem" in report:
        return Probed(module, None, ModuleProblem(**report["problem"]))
    found = report["task"]
    patterns = {name: tuple(found[name]) for name in ("environment", "include", "exclude")}
    missing = tuple((what, command) for what, command in found["missing"])
    task = TaskSummary(**{**found, **patterns, "missing": missing})
    return Probed(module, task, None, advice=tuple(report["advice"]), files=tuple(report["files"]))
