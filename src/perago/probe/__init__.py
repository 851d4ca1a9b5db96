"""Import a task module in a child process, and return its TaskDef or what went wrong.

The command line itself never imports an author's module. Whatever the module does at import (print, hang, exit,
crash, fork), it does to a child that is thrown away.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from perago.probe.process import ChildProcess, Code, ModuleProblem, Probed, TaskSummary, WorkflowSummary
from perago.processes import signals_held, sigterm_unwinds
from perago.taskdef.loading import find_modules

__all__ = [
    "ModuleProblem",
    "Probed",
    "TaskSummary",
    "WorkflowSummary",
    "probe_modules",
    "probing",
    "refused_as_duplicate",
]


def probe_modules(
    modules: Sequence[str], seconds: float, *, packages: bool = False, workflows: bool = False
) -> list[Probed]:
    """Import every module in a child process of its own, each for at most `seconds`."""
    with probing(modules, seconds, packages=packages, workflows=workflows) as results:
        return results()


AT_ONCE = min(4, os.cpu_count() or 1)
"""Modules that are imported side by side."""

Progress = Callable[[int, int], None]
"""Called with the number of modules that were imported, and of all modules."""


@contextlib.contextmanager
def probing(
    modules: Sequence[str],
    seconds: float,
    *,
    packages: bool = False,
    examine: str = "",
    workflows: bool = False,
    progress: Progress | None = None,
) -> Iterator[Callable[[], list[Probed]]]:
    """Start with the first modules right away; the caller may do something else before it asks for the results.

    Args:
        modules: Import paths.
        seconds: How long importing one module may take.
        packages: Take a package for all modules below it that declare a task.
        examine: As in `inspect_module`.
        workflows: Accept a module that declares workflows only.
        progress: Called after each group of modules.

    Returns:
        A function that waits for the results, one for each module.
    """
    found = _found(modules) if packages else dict.fromkeys(modules, True)
    names = tuple(found)
    with contextlib.ExitStack() as stack, sigterm_unwinds():
        first = [_enter(stack, name, seconds, examine) for name in names[:AT_ONCE]]

        def results() -> list[Probed]:
            probed = _results(first)
            while left := names[len(probed) : len(probed) + AT_ONCE]:
                if progress is not None:
                    progress(len(probed), len(names))
                with contextlib.ExitStack() as some:
                    probed += _results([_enter(some, name, seconds, examine) for name in left])
            if workflows:
                probed = [_without_task(one) for one in probed]
            wanted = [one for one in probed if found[one.module] or one.problem is None or not one.problem.is_no_task]
            return _refuse_duplicates(wanted or [_empty(package, probed) for package in modules])

        yield results


def _without_task(probed: Probed) -> Probed:
    """The same; a module with workflows need not declare a task."""
    is_enough = probed.workflows and probed.problem is not None and probed.problem.is_no_task
    return replace(probed, problem=None) if is_enough else probed


def _results(children: Sequence[ChildProcess]) -> list[Probed]:
    for child in children:
        child.listen()
    return [child.result() for child in children]


def _found(names: Sequence[str]) -> dict[str, bool]:
    """The modules that the names mean, in order, and whether each must declare a task."""
    found: dict[str, bool] = {}
    for name in names:
        for module in find_modules([name]):
            found[module.name] = found.get(module.name, False) or module.named
    return found


def _empty(package: str, looked_at: Sequence[Probed]) -> Probed:
    number = sum(one.module == package or one.module.startswith(f"{package}.") for one in looked_at)
    message = f"none of the {number} modules of package {package} declares a task"
    fix = "decorate a function with @task(...) in one of them, or name the right package"
    return Probed(package, None, ModuleProblem(Code.INVALID, message, fix=fix))


def _enter(stack: contextlib.ExitStack, module: str, seconds: float, examine: str) -> ChildProcess:
    """Start a child that `stack` ends. A signal waits until both is done: in between, the child would keep running."""
    with signals_held():
        return stack.enter_context(ChildProcess(module, seconds, examine=examine))


def _refuse_duplicates(probed: Sequence[Probed]) -> list[Probed]:
    """A task name belongs to one module; a module that declares it again has a problem."""
    owners: dict[str, str] = {}
    result = []
    for one in probed:
        owner = owners.setdefault(one.task.name, one.module) if one.task else one.module
        checked = one if owner == one.module else refused_as_duplicate(one, owner)
        for workflow in one.workflows:
            other = owners.setdefault(f"workflow {workflow.name!r} {workflow.version}", one.module)
            if other != one.module:
                what = f"version {workflow.version} of the workflow {workflow.name!r}"
                message = f"module {one.module} declares {what}, which {other} declares as well"
                problem = ModuleProblem(Code.DUPLICATE, message, fix="give one of the two another name")
                checked = replace(one, task=None, workflows=(), problem=problem)
        result.append(checked)
    return result


def refused_as_duplicate(probed: Probed, owner: str) -> Probed:
    """A module whose task name `owner` has taken already."""
    name = probed.task.name if probed.task else ""
    message = f"module {probed.module} declares the task {name!r}, which {owner} declares as well"
    problem = ModuleProblem(Code.DUPLICATE, message, fix="give one of the two another name")
    return replace(probed, task=None, problem=problem)
