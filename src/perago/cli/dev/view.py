"""What `perago dev` shows: where everything is, then what the workers say, side by side."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from perago.cli.dev.workflows import BRANCH, REPOSITORY, workflow_name
from perago.cli.messages import Colour, painted
from perago.workspace.text import one_line

if TYPE_CHECKING:
    from perago.cli.probe import TaskSummary
    from perago.embedded.http.services import EmbeddedServices


_COLOURS = (Colour.CYAN, Colour.GREEN, Colour.YELLOW)


class DevView:
    """Prints to standard output. Lines about a module begin with its name, as short as it is unmistakable."""

    def __init__(self, modules: Sequence[str]) -> None:
        names = _short_names(modules)
        width = max(map(len, names))
        self._prefixes = {
            module: painted(f"{name:{width}} |", colour, sys.stdout)
            for module, name, colour in zip(modules, names, cycle(_COLOURS), strict=False)
        }

    def services(self, services: EmbeddedServices, ref: str, seconds: float, state: Path | None) -> None:
        """Show that the services are up and the workers on their way.

        Args:
            services: Where everything is.
            ref: The commit that the branch points at.
            seconds: How long the start took.
            state: Where everything is kept; None if nothing is.
        """
        title = painted(f"perago dev is ready after {seconds:.2f} s", Colour.GREEN, sys.stdout)
        kept = f"kept in {state}" if state is not None else "gone when this ends; --state DIR keeps it"
        lines = [
            f"{title}, Ctrl-C ends it",
            "",
            f"  page        {services.url}/",
            f"  Conductor   {services.conductor_url}",
            f"  lakeFS      {services.lakefs_url}  repository {REPOSITORY}, branch {BRANCH} at {ref[:12]}",
            f"  everything  {kept}",
            "",
            "For perago, lakectl and curl in other terminals (these keys open nothing else):",
            *(f"  export {name}={shlex.quote(value)}" for name, value in services.environment().items()),
        ]
        self._write("\n".join(lines))

    def start(self, task: TaskSummary, once: str, always: str) -> None:
        """How a workflow is started now, and at any time."""
        origin = "the parameters of its first example" if task.example is not None else "parameters to fill in"
        newest = "" if task.workspace is None else f", on the newest commit of {BRANCH}"
        self._write(
            f"\nStart workflow {workflow_name(task)} with {origin}:\n  {once}\n"
            f"or, with the variables above, at any time{newest}:\n  {always}\n"
        )

    def line(self, module: str, text: str) -> None:
        """One line about a module."""
        self._write(f"{self._prefixes[module]} {one_line(text)}")

    def stopping(self, signals: int) -> None:
        """A signal came."""
        texts = ("stopping: running attempts may finish; once more cancels them", "cancelling; once more kills")
        self._write(texts[signals - 1] if signals <= len(texts) else "killing")

    def stopped(self, state: Path | None) -> None:
        """Everything has ended."""
        self._write("stopped" if state is None else f"stopped; everything is in {state}")

    def _write(self, text: str) -> None:
        """A reader that has gone away is no reason to stop."""
        try:
            sys.stdout.write(f"{text}\n")
            sys.stdout.flush()
        except OSError:
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - for good


def _short_names(modules: Sequence[str]) -> list[str]:
    last = [module.rpartition(".")[2] for module in modules]
    return last if len(set(last)) == len(last) else list(modules)
