"""Declarations of tests about task functions and their modules: `task_of`, `provide_params`, `task_tests`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from perago.authoring import Example, Task
from perago.authoring.task import get_task

TaskFunction: TypeAlias = Callable[..., Any]
"""A function with `@task`."""

_provided: dict[str, dict[str, Mapping[str, Any] | Example]] = {}


def task_of(function: TaskFunction | Task) -> Task:
    """Return what was declared; a `Task` is returned as it is.

    Raises:
        TypeError: it has no `@task`, or is a wrapper around one that has.
    """
    task = function if isinstance(function, Task) else get_task(function)
    if task is None:
        raise TypeError(f"{getattr(function, '__name__', function)!r} is not a task function; decorate it with @task")
    return task


def provide_params(task_name: str, *params: Mapping[str, Any] | Example) -> None:
    """Provide parameters for a task, in a `conftest.py` for example; once more adds to them.

    Mappings are parameters as a workflow would send them. An `Example` also has a tree and an outcome, and is run when
    `perago_run` is `all`.
    """
    known = _provided.setdefault(task_name, {})
    for item in params:  # a conftest that is imported twice provides nothing twice
        known.setdefault(repr(item), item)


def provided_params(task_name: str) -> tuple[Mapping[str, Any] | Example, ...]:
    """Return what was provided, in that order."""
    return tuple(_provided.get(task_name, {}).values())


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
