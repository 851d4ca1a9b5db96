"""What is said about task modules, on standard error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from perago.cli import debug
from perago.cli.render import messages

if TYPE_CHECKING:
    from perago.cli.probe import Probed

_SHOWN_LINES = 20


def notes(probed: Probed) -> None:
    """What the module printed while it was imported, and what it left running."""
    if probed.printed:
        lines = masked(probed.output).splitlines()
        whole = len(lines) <= _SHOWN_LINES and len(probed.output.encode()) >= probed.printed
        extent = "" if whole else f" {probed.printed:,} bytes, which end with"
        title = f"{probed.module} printed while it was imported{extent}:"
        messages.note("\n  | ".join([title, *lines[-_SHOWN_LINES:]]))
    if probed.left_running:
        messages.note(f"{probed.module} started processes while it was imported; they were stopped")


def problem(probed: Probed) -> None:
    """Why the module cannot be used."""
    found = probed.problem
    if found is None:
        return
    if debug.wanted() and found.traceback:
        messages.traceback(masked(found.traceback))
    place = f"{found.where}: " if found.where else ""
    messages.error(f"{place}{masked(found.message)}", found.fix)


def report(modules: Sequence[Probed]) -> bool:
    """Everything there is to say about the modules; whether all of them can be used."""
    for probed in modules:
        notes(probed)
    for probed in modules:
        problem(probed)
    return all(probed.task is not None for probed in modules)


def masked(text: str) -> str:
    """`text` without configured secrets; the author's module may print anything."""
    from perago.settings import mask_secrets

    return mask_secrets(text)
