"""The kinds of generated tests. A kind is imported when it is asked for, so that none pays for another's libraries.

A kind's module has a function `cases_<kind>(task: Task, settings: Settings) -> Iterable[Case]`.
"""

from __future__ import annotations

from collections.abc import Mapping

KINDS: Mapping[str, tuple[str, str]] = {
    "contract": ("pytest_perago.kinds.contract", "params and results survive JSON, and Conductor accepts the TaskDef"),
    "guardrail": ("pytest_perago.kinds.guardrail", "each guardrail accepts and rejects what it should"),
    "fuzz": ("pytest_perago.kinds.fuzz", "trees and paths near the guardrails are judged as documented"),
    "taskdef": ("pytest_perago.kinds.taskdef", "the TaskDef equals its snapshot"),
    "run": ("pytest_perago.kinds.run", "a declared case runs through the real protocol on services in memory"),
    "faults": (
        "pytest_perago.kinds.faults",
        "a declared case bears what production does, and leaves the same each time",
    ),
}
"""Name of the kind: its module, and what it proves. The order is that of the tests of a task."""
