"""From a task function to what was declared about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from perago.authoring import Task
from perago.authoring.task import get_task

TaskFunction: TypeAlias = Callable[..., Any]
"""A function with `@task`."""


def task_of(function: TaskFunction | Task) -> Task:
    """What was declared; a `Task` is taken as it is.

    Raises:
        TypeError: it has no `@task`, or is a wrapper around one that has.
    """
    task = function if isinstance(function, Task) else get_task(function)
    if task is None:
        raise TypeError(f"{getattr(function, '__name__', function)!r} is not a task function; decorate it with @task")
    return task
