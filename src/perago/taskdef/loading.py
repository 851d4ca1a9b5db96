"""From a module path to its one task (docs/design/contract.md 2: a module declares exactly one)."""

from __future__ import annotations

import inspect
from types import ModuleType

from perago.authoring import Task, TaskDefinitionError
from perago.authoring.task import TASK_ATTRIBUTE, get_task
from perago.taskdef.imports import import_module
from perago.taskdef.schema import input_schema, output_schema


class NoTask(TaskDefinitionError):
    """The module is in order and declares no task."""


def load_task(module: str) -> Task:
    """Import `module` and return the task it declares.

    The module's code runs here, with everything it does: callers who cannot afford a hang or output import it in
    another process. Whatever it raises, KeyboardInterrupt and SystemExit included, is reported as its mistake.

    Raises:
        TaskDefinitionError: it cannot be imported, declares no task or several, or the models of its task have no
            usable JSON Schema.
    """
    imported = import_module(module)
    task = _only_task(imported)
    input_schema(task)
    output_schema(task)
    return task


def _only_task(module: ModuleType) -> Task:
    name = module.__name__
    members = [value for value in vars(module).values() if isinstance(_carried_task(value), Task)]
    found = {id(task): task for task in map(_carried_task, members) if task is not None and task.module == name}
    tasks = sorted(found.values(), key=lambda task: task.line)
    if not tasks:
        raise _no_task(module, [task for task in map(_carried_task, members) if task is not None])
    if len(tasks) > 1:
        listed = ", ".join(f"{task.name} (line {task.line})" for task in tasks)
        raise TaskDefinitionError(
            f"module {name} declares {len(tasks)} tasks, but one is the rule: {listed}",
            file=tasks[1].file,
            line=tasks[1].line,
            fix="move each further task to a module of its own",
        )
    task = tasks[0]
    if not any(get_task(value) is task for value in members):
        raise TaskDefinitionError(
            f"task {task.name!r}: a decorator stands above @task, so what it adds would not run",
            file=task.file,
            line=task.line,
            fix="move @task to the top, above all other decorators",
        )
    return task


def _carried_task(value: object) -> Task | None:
    """The task that an object carries, be it the function or a wrapper that copied its attributes."""
    found = inspect.getattr_static(value, TASK_ATTRIBUTE, None)
    return found if isinstance(found, Task) else None


def _no_task(module: ModuleType, imported: list[Task]) -> NoTask:
    elsewhere = ", ".join(sorted({f"{task.name} of {task.module}" for task in imported}))
    hint = f"; {elsewhere} is only imported, which does not count" if elsewhere else ""
    fix = "decorate one function of the module with @task(...), and put @task above all other decorators"
    return NoTask(f"module {module.__name__} declares no task{hint}", file=getattr(module, "__file__", None), fix=fix)
