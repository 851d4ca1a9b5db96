"""Which task modules a test file makes tests from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TaskTests:
    """Collected by perago's pytest plugin in the test module that holds it; without the plugin it is nothing.

    `kinds` None: those that pytest's configuration asks for.
    """

    modules: tuple[str, ...]
    kinds: tuple[str, ...] | None = None


def task_tests(*modules: str, kinds: Iterable[str] | None = None) -> TaskTests:
    """Make tests from task modules in a test file: `test_workers = task_tests("app.workers")`.

    The tests are the same as with `--perago-modules`, but see the fixtures and hooks of the `conftest.py` beside the
    test file. A package means all modules below it that declare a task.
    """
    return TaskTests(modules, None if kinds is None else tuple(kinds))
