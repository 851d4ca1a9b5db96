"""The kinds of generated tests: perago's own, and those of installed packages.

An installed package adds one by an entry point of the group `perago.kinds`, which names a `Kind`. Its tests are
`Case`s, and get a `KindContext`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from perago.authoring import Example, Task

__all__ = ["Case", "Kind", "KindContext", "Location"]


class KindContext(Protocol):
    """The public part of what a kind and its tests get."""

    @property
    def config(self) -> pytest.Config:
        """The configuration of pytest: options, ini values and the root directory."""

    def provided(self, task: Task) -> Sequence[Mapping[str, Any] | Example]:
        """Return the parameters that `provide_params` and the hook `pytest_perago_params` give for a task."""


@dataclass(frozen=True, slots=True)
class Location:
    """The origin of a test; `line` counts from 1."""

    file: Path
    line: int


@dataclass(frozen=True, slots=True)
class Case:
    """One generated test of a task."""

    label: str
    """The text in the brackets of the test's name; empty for no brackets."""
    check: Callable[[Any], None] = field(repr=False)
    """The test, which gets the `KindContext`. It raises `CaseFailed` if the task is at fault, and another exception if
    the kind is broken."""
    location: Location | None = None
    """The place of the test; None: that of the task."""
    declared: Any = None
    """The example or case file that a test of perago's kind `run` runs."""
    kind: str = ""
    """The name of its kind, which the session sets."""

    @property
    def name(self) -> str:
        """The last part of the node id."""
        return f"{self.kind}[{printable(self.label)}]" if self.label else self.kind


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of generated tests."""

    cases: Callable[[Task, Any], Iterable[Case]] | str
    """Makes the tests of a task, from the task and the `KindContext`. A text `MODULE:FUNCTION` is imported on use."""
    proves: str
    """The promise that its tests prove, in a few words."""
    opt_in: bool = False
    """Whether tests of this kind are generated only if `perago_kinds` or `--perago-kinds` names it."""
    for_own_guardrails: bool = False
    """Whether, unless it is named, only tasks with a guardrail of their author's have tests of this kind."""


KINDS: Mapping[str, Kind] = {
    "contract": Kind(
        "pytest_perago.kinds.contract:cases_contract",
        "params and results survive JSON, and Conductor accepts the TaskDef",
    ),
    "guardrail": Kind(
        "pytest_perago.kinds.guardrail:cases_guardrail", "each guardrail accepts valid trees and rejects invalid ones"
    ),
    "fuzz": Kind(
        "pytest_perago.kinds.fuzz:cases_fuzz",
        "trees and paths near the guardrails are judged as documented",
        for_own_guardrails=True,
    ),
    "taskdef": Kind("pytest_perago.snapshots:cases_taskdef", "the TaskDef equals its snapshot"),
    "run": Kind(
        "pytest_perago.kinds.run:cases_run", "a declared case runs through the real protocol on services in memory"
    ),
    "faults": Kind(
        "pytest_perago.kinds.faults:cases_faults",
        "a declared case tolerates the faults of production, and has the same output each time",
    ),
    "robust": Kind(
        "pytest_perago.kinds.robust:cases_robust",
        "the function does not fail on changed inputs that its guardrails accept",
        opt_in=True,
    ),
}
"""perago's own kinds by name, in the order of the tests of a task."""

GROUP = "perago.kinds"
"""The group of entry points that name further kinds."""

_RESERVED = {"import", "own", "definition", "wiring"}
"""Names of tests that belong to a module or a workflow, and of written tests in the report."""


def load_kinds() -> tuple[Mapping[str, Kind], tuple[str, ...]]:
    """Load the kinds of installed packages.

    Returns:
        All kinds by name, perago's own first, and a line for each broken entry point. A broken kind is opt-in, and its
        tests fail. So only a run that names it fails.
    """
    kinds, problems = dict(KINDS), []
    for entry in sorted(entry_points(group=GROUP)):
        source = f"the kind {entry.name} ({entry.value})"
        if entry.name in {*kinds, *_RESERVED} or not re.fullmatch(r"\w+", entry.name):
            problems.append(f"{source} is ignored, because its name is taken or is not an identifier")
            continue
        try:
            kinds[entry.name] = _loaded(entry)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a module can raise SystemExit, or skip
            problems.append(f"{source} cannot be loaded: {type(error).__name__}: {error}")
            kinds[entry.name] = _broken(problems[-1])
    return kinds, tuple(problems)


def _loaded(entry: EntryPoint) -> Kind:
    kind = entry.load()
    if not isinstance(kind, Kind):
        raise TypeError(f"it is a {type(kind).__name__}, not a pytest_perago.kinds.Kind")
    return kind


def _broken(problem: str) -> Kind:
    def cases(task: Task, context: KindContext) -> Iterable[Case]:  # noqa: ARG001 - called like every kind
        raise RuntimeError(problem)

    return Kind(cases, problem, opt_in=True)


def printable(text: str) -> str:
    """Return the text without characters that a terminal or an environment variable cannot hold: control and surrogate
    characters."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def distinct(cases: Iterable[Case]) -> Iterator[Case]:
    """Yield the cases, with `#2`, `#3`... after a repeated name."""
    counts: dict[str, int] = {}
    for case in cases:
        counts[case.name] = count = counts.get(case.name, 0) + 1
        yield case if count == 1 else replace(case, label=f"{case.label}#{count}")
