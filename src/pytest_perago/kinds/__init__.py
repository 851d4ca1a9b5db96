"""The kinds of generated tests. A kind is imported on demand, because each kind needs different libraries.

The module of a kind has a function `cases_<kind>(task: Task, session: Session) -> Iterable[Case]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of generated tests."""

    module: str
    proves: str
    """The promise that its tests prove, in a few words."""
    opt_in: bool = False
    """Whether tests of this kind are generated only if `perago_kinds` or `--perago-kinds` names it."""
    for_own_guardrails: bool = False
    """Whether, unless it is named, only tasks with a guardrail of their author's have tests of this kind."""


KINDS: Mapping[str, Kind] = {
    "contract": Kind(
        "pytest_perago.kinds.contract", "params and results survive JSON, and Conductor accepts the TaskDef"
    ),
    "guardrail": Kind("pytest_perago.kinds.guardrail", "each guardrail accepts valid trees and rejects invalid ones"),
    "fuzz": Kind(
        "pytest_perago.kinds.fuzz",
        "trees and paths near the guardrails are judged as documented",
        for_own_guardrails=True,
    ),
    "taskdef": Kind("pytest_perago.snapshots", "the TaskDef equals its snapshot"),
    "run": Kind("pytest_perago.kinds.run", "a declared case runs through the real protocol on services in memory"),
    "faults": Kind(
        "pytest_perago.kinds.faults",
        "a declared case tolerates the faults of production, and has the same output each time",
    ),
    "robust": Kind(
        "pytest_perago.kinds.robust",
        "the function does not fail on changed inputs that its guardrails accept",
        opt_in=True,
    ),
}
"""The kinds by name, in the order of the tests of a task."""
