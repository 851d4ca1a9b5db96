"""Kind `faults`: a declared case under the conditions of production.

The function is called again, at another time, with other random numbers, with directories listed in another order. Its
worker dies, its attempt is canceled, its disk is full. The outcome must be the same each time, and nothing must be left
outside.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from perago.authoring import Task
from perago.trees.cases import RunCase
from pytest_perago.kinds import Case
from pytest_perago.kinds.run import declared_cases, location_of, readable_cases
from pytest_perago.session import Session

CHECKS = (
    "repeated",
    "time",
    "random",
    "listing-order",
    "set-order",
    "thread-timing",
    "retried",
    "own-output",
    "cancelled",
    "full-disk",
    "left-behind",
)
"""The last parts of labels, which name functions of `pytest_perago.kinds.faults.checks`."""

_ON_FILES = ("listing-order", "own-output", "full-disk")
"""Labels that need a workspace."""
_MOST_CASES = 4
"""Cases whose first attempt is remembered."""


def cases_faults(task: Task, session: Session) -> Iterable[Case]:
    """Yield the tests of each declared case that completes. The task is not executed before a test runs."""
    for source, case in readable_cases(declared_cases(task, session)):
        for check in CHECKS if case.expect == "completed" else ():
            if task.workspace is not None or check not in _ON_FILES:
                call = partial(_run, task, case, check)
                yield Case(f"{case.label}:{check}", call, location_of(source))


def _run(task: Task, case: RunCase, check: str, session: Session) -> None:
    from pytest_perago.attempts import FaultCase  # the services are loaded when something runs
    from pytest_perago.kinds.faults.checks import CHECKED

    known = session.fault_cases
    key = (task.module, task.name, case.label)
    fault_case = known.pop(key, None)
    if fault_case is None or fault_case.task is not task:
        fault_case = FaultCase(task, case, session.watch(), memory=session.memory(task.module))
    known[key] = fault_case  # the last one used is the last
    while len(known) > _MOST_CASES:
        del known[next(iter(known))]
    fault_case.watch = session.watch()
    with fault_case.watch.case(case.label):
        CHECKED[check](fault_case)
