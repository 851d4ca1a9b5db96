"""Declarations of tests about task functions and their modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from perago.authoring import Example, Task
from perago.authoring.task import get_task

TaskFunction: TypeAlias = Callable[..., Any]
"""A function with `@task`."""

_provided: dict[str, dict[str, Mapping[str, Any] | Example]] = {}


def task_of(function: TaskFunction | Task) -> Task:
    """Return the declared task. A `Task` is returned unchanged.

    Raises:
        TypeError: it has no `@task`, or is a wrapper around one that has.
    """
    __tracebackhide__ = True
    task = function if isinstance(function, Task) else get_task(function)
    if task is None:
        raise TypeError(f"{getattr(function, '__name__', function)!r} is not a task function; decorate it with @task")
    return task


def provide_params(task_name: str, *params: Mapping[str, Any] | Example) -> None:
    """Provide parameters for a task, for example in a `conftest.py`. Further calls add parameters.

    Mappings are parameters as a workflow would send them. An `Example` also has a tree and an outcome, and is run when
    `perago_run` is `all`.
    """
    known = _provided.setdefault(task_name, {})
    for sample in params:  # a conftest that is imported twice provides nothing twice
        known.setdefault(repr(sample), sample)


def provided_params(task_name: str) -> tuple[Mapping[str, Any] | Example, ...]:
    """Return the provided values, in that order."""
    return tuple(_provided.get(task_name, {}).values())


def known_params(task: Task, provided: Iterable[Mapping[str, Any] | Example]) -> Iterator[Any]:
    """Yield the params of the task's examples, then the provided ones."""
    for example in task.examples:
        if example.expect != "terminal":  # such params may be wrong on purpose
            yield example.params
    for sample in provided:
        yield sample.params if isinstance(sample, Example) else sample


def no_params(task_name: str, problem: str | None) -> str:
    """Say why no params of a task can be made, and how to give some."""
    return (
        f"no params of {task_name} can be made: {problem}; give some with the hook pytest_perago_params, by "
        f"perago.testing.provide_params({task_name!r}, ...) or by an Example of the task"
    )


@dataclass(frozen=True, slots=True)
class TaskTests:
    """A declaration that perago's pytest plugin collects from a test module. It has no effect without the plugin.

    `kinds` None: those that pytest's configuration asks for.
    """

    modules: tuple[str, ...]
    kinds: tuple[str, ...] | None = None


def task_tests(*modules: str, kinds: Iterable[str] | None = None) -> TaskTests:
    """Generate tests from task modules in a test file: `test_workers = task_tests("app.workers")`.

    The tests are the same as with `--perago-modules`, but they use the fixtures and hooks of the `conftest.py` next to
    the test file. A package means all task modules below it.
    """
    return TaskTests(modules, None if kinds is None else tuple(kinds))
