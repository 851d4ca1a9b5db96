"""Task modules for the commands that need their TaskDefs."""

from __future__ import annotations

from collections.abc import Sequence

from perago.cli.boundary import CommandError
from perago.cli.exit_codes import ExitCode
from perago.cli.probe import TaskSummary, probe_modules
from perago.cli.render import modules as render


def load_tasks(modules: Sequence[str], seconds: float, *, packages: bool = False) -> list[TaskSummary]:
    """The task of every module, in order, without importing any of them here. With `packages`, also of all modules
    below each package.

    Raises:
        CommandError: at least one is not valid; all that is wrong with any of them has been said.
    """
    return [task for task, _ in load_tasks_and_files(modules, seconds, packages=packages)]


def load_tasks_and_files(
    modules: Sequence[str], seconds: float, *, packages: bool = False
) -> list[tuple[TaskSummary, tuple[str, ...]]]:
    """The same, each with the module's file and those that it imported from below the current directory."""
    probed = probe_modules(modules, seconds, packages=packages)
    if not render.report(probed):
        raise CommandError(ExitCode.INVALID_MODULE)
    return [(one.task, one.files) for one in probed if one.task is not None]
