"""Kind `faults`: a declared case through what production does to a function.

It is called again, at another time, with other random numbers, with directories listed in another order; its worker
dies, its attempt is cancelled, its disk is full. It must leave the same each time, and nothing beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from perago.authoring import Task
from perago.testing.cases import InvalidCase, RunCase, read_case_file
from pytest_perago.kinds.run import declared_cases
from pytest_perago.session import Case, Location
from pytest_perago.settings import Settings

if TYPE_CHECKING:
    from pytest_perago.faults.case import Matrix

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
"""The last part of a label; functions of `pytest_perago.faults.checks`."""

_ON_FILES = ("listing-order", "own-output", "full-disk")
"""What needs a workspace."""
_MOST_KEPT = 4

_kept: dict[tuple[str, str, str], Matrix] = {}
"""What is known of the last cases, so that their tests share it."""


def cases_faults(task: Task, settings: Settings) -> Iterable[Case]:
    """The tests of each declared case that completes. None executes the task before it is run itself."""
    for found in declared_cases(task, settings):
        location = None if isinstance(found, RunCase) else Location(found, 1)
        case = found if isinstance(found, RunCase) else _read(found)
        if case is None or case.expect != "completed":
            continue
        for check in CHECKS:
            if task.workspace is not None or check not in _ON_FILES:
                call = partial(_run, task, case, settings, check)
                yield Case("faults", f"{case.label}:{check}", call, location=location)


def _read(file: Path) -> RunCase | None:
    """The case of a file; None if it cannot be read, which its `run` test says."""
    try:
        return read_case_file(file)
    except InvalidCase:
        return None


def _run(task: Task, case: RunCase, settings: Settings, check: str) -> None:
    from pytest_perago.faults.case import Matrix
    from pytest_perago.faults.checks import CHECKED  # the services are loaded when something runs

    key = (task.module, task.name, case.label)
    matrix = _kept.pop(key, None)
    if matrix is None or matrix.task is not task:
        matrix = Matrix(task, case)
    _kept[key] = matrix  # the last one used stands last
    while len(_kept) > _MOST_KEPT:
        del _kept[next(iter(_kept))]
    matrix.run(CHECKED[check], settings.watch_run())
