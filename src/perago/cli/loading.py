"""Task modules for the commands that need their TaskDefs, and what there is to say about them on standard error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from perago.cli import messages
from perago.cli.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from perago.cli.probe import Probed, TaskSummary


_SHOWN_LINES = 20
"""Lines of a module's own output that are shown."""


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
    from perago.cli.probe import probe_modules

    probed = probe_modules(modules, seconds, packages=packages)
    if not report(probed):
        raise CommandError(ExitCode.INVALID_MODULE)
    return [(one.task, one.files) for one in probed if one.task is not None]


def show_notes(probed: Probed) -> None:
    """What the module printed while it was imported, and what it left running."""
    if probed.printed:
        lines = masked(probed.output).splitlines()
        whole = len(lines) <= _SHOWN_LINES and len(probed.output.encode()) >= probed.printed
        extent = "" if whole else f" {probed.printed:,} bytes, which end with"
        title = f"{probed.module} printed while it was imported{extent}:"
        messages.note("\n  | ".join([title, *lines[-_SHOWN_LINES:]]))
    if probed.left_running:
        messages.note(f"{probed.module} started processes while it was imported; they were stopped")


def show_problem(probed: Probed) -> None:
    """Why the module cannot be used."""
    found = probed.problem
    if found is None:
        return
    if messages.tracebacks_wanted() and found.traceback:
        messages.traceback(masked(found.traceback))
    place = f"{found.where}: " if found.where else ""
    messages.error(f"{place}{masked(found.message)}", found.fix)


def report(modules: Sequence[Probed]) -> bool:
    """Everything there is to say about the modules; whether all of them can be used."""
    for probed in modules:
        show_notes(probed)
    for probed in modules:
        show_problem(probed)
    return all(probed.task is not None for probed in modules)


def masked(text: str) -> str:
    """`text` without configured secrets; the author's module may print anything."""
    from perago.settings import mask_secrets

    return mask_secrets(text)
