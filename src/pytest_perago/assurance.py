"""What a green run does not say: functions that no attempt called, guardrails that were never satisfied or violated.

It is said about the tasks that have tests in the run, and only where no test was left out on purpose: somebody who runs
one test again knows that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from perago.authoring import Task
from pytest_perago.items import CaseItem
from pytest_perago.kinds.guardrail import phases_of
from pytest_perago.options import DESELECTED, UNTRIED_OF_WORKERS, UNTRIED_OUTPUT

_UNTRIED = pytest.StashKey[list[str]]()
_FUNCTION = "function"
_SHOWN = 20
_COMPLETE = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


def look(session: pytest.Session) -> None:
    """Find out at the end of a session. A worker of pytest-xdist tells its controller."""
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput[UNTRIED_OUTPUT] = list(_untried(session))
        return
    if session.exitstatus not in _COMPLETE or config.stash.get(DESELECTED, False) or _selects(config):
        return
    workers = config.stash.get(UNTRIED_OF_WORKERS, None)
    if workers is None:
        config.stash[_UNTRIED] = list(_untried(session))
    elif None not in workers:  # what no worker has tried
        first, *others = (told or [] for told in workers)
        config.stash[_UNTRIED] = [line for line in first if all(line in told for told in others)]


def summarise(terminalreporter: Any, config: pytest.Config) -> None:
    """Say it in the summary."""
    found: list[str] = config.stash.get(_UNTRIED, [])
    lines = list(_merged(found))
    if not lines:
        return
    terminalreporter.section("perago: not tried by any attempt of this run")
    for line in lines[:_SHOWN]:
        terminalreporter.line(line)
    if len(lines) > _SHOWN:
        terminalreporter.line(f"and {len(lines) - _SHOWN} more")


def _selects(config: pytest.Config) -> bool:
    """Whether the command line wants just some tests."""
    if config.getoption("collectonly") or config.getoption("--perago-kinds"):
        return True
    return any("::" in argument for argument in config.getoption("file_or_dir"))


def _untried(session: pytest.Session) -> Iterator[str]:
    """One line for the function of a task and each direction of a guardrail; a tab before the direction."""
    services = sys.modules.get("perago.testing.services")
    tried = services.TRIED if services is not None else set()
    tasks = {item.task.name: item.task for item in session.items if isinstance(item, CaseItem) and item.task}
    for _, task in sorted(tasks.items()):
        for line, what in _wanted(task):
            if (task.module, task.name, *what) not in tried:
                yield line


def _wanted(task: Task) -> Iterator[tuple[str, tuple[str, ...]]]:
    hint = "declare an Example, or use perago_run in a test"
    yield f"{task.name}: its function never ran: {hint}", (_FUNCTION,)
    for phase, rules in phases_of(task):
        for rule in rules:
            for direction in ("satisfied", "violated"):
                yield f"{task.name}: {phase} guardrail {rule} was never\t{direction}", (phase, str(rule), direction)


def _merged(lines: Iterable[str]) -> Iterator[str]:
    """Both directions of a guardrail in one line."""
    directions: dict[str, list[str]] = {}
    for line in lines:
        what, _, direction = line.partition("\t")
        directions.setdefault(what, []).append(direction)
    for what, found in directions.items():
        yield f"{what} {' or '.join(found)}".rstrip()
