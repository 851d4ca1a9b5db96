"""Load the settings and the task modules of a command, and report their problems."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from perago.cli import messages
from perago.cli.messages import CommandError, ExitCode
from perago.cli.rendering import working
from perago.configuration import read_configuration

if TYPE_CHECKING:
    from perago.probe import Probed, TaskSummary, WorkflowSummary
    from perago.settings import Settings


_SHOWN_LINES = 20
"""Lines of a module's own output that are shown."""


def valid_settings(*, local: bool = False) -> Settings:
    """Return the settings, with their roots made. Child processes no longer inherit credentials.

    With `local`, for a command on embedded services, only the variables that it needs must be valid.

    Raises:
        CommandError: the configuration is not valid, and its problems were reported.
    """
    from perago.settings import prepare_roots

    configuration = read_configuration(local=local)
    for text in configuration.warnings:
        messages.warning(text)
    if configuration.settings is None or configuration.problems:
        messages.configuration_errors(configuration.problems)
        raise CommandError(ExitCode.INVALID_CONFIGURATION)
    prepare_roots(configuration.settings)
    withhold_credentials()
    return configuration.settings


def withhold_credentials() -> None:
    """Remove the variables that task functions must not see from the environment of child processes."""
    from perago.authoring.task import withheld
    from perago.settings import take_from_environment

    take_from_environment(withheld(os.environ))


# ----------------------------------------------------------------------------------------- task modules


def load_tasks(modules: Sequence[str], seconds: float, *, packages: bool = False) -> list[TaskSummary]:
    """Return the task of each module, in order. Child processes import the modules.

    Args:
        modules: import paths.
        seconds: how long importing one module may take.
        packages: whether a package means all task modules below it.

    Raises:
        CommandError: a module is not valid, and the problems of all modules were reported.
    """
    return [module.task for module in load_modules(modules, seconds, packages=packages) if module.task is not None]


def load_definitions(modules: Sequence[str], seconds: float) -> tuple[list[TaskSummary], list[WorkflowSummary]]:
    """Return the tasks and the workflows of all modules, also of those below each package, in order.

    Raises:
        CommandError: as for `load_tasks`.
    """
    probed = load_modules(modules, seconds, packages=True, workflows=True)
    workflows = [flow for module in probed for flow in module.workflows]
    return [module.task for module in probed if module.task is not None], workflows


def load_task_to_run(module: str, seconds: float) -> tuple[TaskSummary, tuple[str, ...]]:
    """Return a task that can run here, with the files of its module and of the modules here that it imports.

    Raises:
        CommandError: the module is not valid, or a package that the task needs is not installed.
    """
    (probed,) = load_modules([module], seconds, to_run=True)
    if probed.task is None:
        raise CommandError(ExitCode.INVALID_MODULE)
    return probed.task, probed.files


def load_modules(
    modules: Sequence[str], seconds: float, *, packages: bool = False, to_run: bool = False, workflows: bool = False
) -> Sequence[Probed]:
    """Return what child processes found in the modules.

    Raises:
        CommandError: as for `load_tasks`.
    """
    from perago.probe import probe_modules

    probed = probe_modules(modules, seconds, packages=packages, workflows=workflows, waiting=importing)
    advised = list(map(_advised, probed))
    probed = able_to_run(advised) if to_run else advised
    if not report(probed):
        raise CommandError(ExitCode.INVALID_MODULE)
    return probed


def importing(module: str) -> AbstractContextManager[object]:
    """Show on a terminal that a module is being imported."""
    return working(f"importing {module}")


def _advised(module: Probed) -> Probed:
    """Return the module. One that declares only workflows, where a task is needed, says where they are used."""
    if not module.workflows or module.problem is None or not module.problem.is_no_task:
        return module
    fix = "name a module with a task; its workflows are for perago workflow, dev, register, diff and send"
    return replace(module, problem=replace(module.problem, fix=fix))


def able_to_run(modules: Iterable[Probed]) -> list[Probed]:
    """Return the modules. A task that lacks a package on this machine becomes a problem of its module."""
    from perago.probe import Code, ModuleProblem

    checked = []
    for module in modules:
        if module.task is not None and module.task.missing:
            what, command = module.task.missing[0]
            problem = ModuleProblem(Code.MISSING, f"task {module.task.name} cannot run: {what}", fix=command)
            checked.append(replace(module, task=None, problem=problem))
        else:
            checked.append(module)
    return checked


def show_notes(probed: Probed) -> None:
    """Report what the module printed during its import, and the processes that it left running."""
    if probed.printed:
        lines = masked(probed.output).splitlines()
        is_whole = len(lines) <= _SHOWN_LINES and len(probed.output.encode()) >= probed.printed
        extent = "" if is_whole else f" {probed.printed:,} bytes, which end with"
        title = f"{probed.module} printed while it was imported{extent}:"
        messages.note("\n  | ".join([title, *lines[-_SHOWN_LINES:]]))
    if probed.left_running:
        messages.note(f"{probed.module} started processes while it was imported; perago stopped them")


def show_problem(probed: Probed) -> None:
    """Report why the module cannot be used."""
    problem = probed.problem
    if problem is None:
        return
    if messages.tracebacks_wanted() and problem.traceback:
        messages.traceback(masked(problem.traceback))
    for error in (problem, *problem.others):
        place = f"{error.where}: " if error.where else ""
        messages.error(f"{place}{masked(error.message)}", error.fix)


def report(modules: Sequence[Probed]) -> bool:
    """Report the problems of the modules. Return whether all modules can be used."""
    for probed in modules:
        show_notes(probed)
    for probed in modules:
        show_problem(probed)
    return all(probed.problem is None for probed in modules)


def masked(text: str) -> str:
    """Return the output of a module without configured secrets."""
    from perago.settings import mask_secrets

    return mask_secrets(text)
