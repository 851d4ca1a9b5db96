"""Importing one task module inside pytest, whatever it does."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from perago.authoring import Task, TaskDefinitionError
from perago.taskdef import load_task
from perago.taskdef.discovery import FoundModule
from perago.taskdef.loading import NoTask
from perago.testing.failures import CaseFailed, Cause
from pytest_perago.cases import Location
from pytest_perago.confinement import OpenText
from pytest_perago.frames import author_traceback, formatted_stack
from pytest_perago.watch import Stuck, Watch


@dataclass(frozen=True, slots=True)
class LoadedModule:
    """A module after its import. `error` is set if it has no valid task; `output` is what it printed."""

    found: FoundModule
    task: Task | None
    error: TaskDefinitionError | None = None
    output: str = ""
    stuck: Stuck | None = None
    """Where it stood when its time was over."""

    @property
    def is_passed_over(self) -> bool:
        """Whether it simply declares no task, and nobody said it would."""
        return not self.found.named and isinstance(self.error, NoTask)

    def location(self) -> Location | None:
        """The line that is to blame, as far as it is known."""
        if self.stuck is not None and self.stuck.stack:
            frame = self.stuck.stack[-1]
            return Location(Path(frame.filename), frame.lineno or 1)
        if self.error is not None and self.error.file:
            return Location(Path(self.error.file), self.error.line or 1)
        return None

    def case_failed(self) -> CaseFailed:
        """Why there is no task to test."""
        if self.error is None:
            raise ValueError(f"{self.found.name} was loaded")
        if self.stuck is not None:
            return CaseFailed(
                Cause.MISTAKE,
                f"the import of {self.found.name} did not end within {self.stuck.seconds:g} s (perago_import_timeout)",
                details=[formatted_stack(self.stuck.stack)],
            )
        facts = [("fix", self.error.fix)] if self.error.fix else []
        return CaseFailed(
            Cause.MISTAKE, self.error.message, facts=facts, details=[author_traceback(self.error.__cause__)]
        )


def load_module(found: FoundModule, watch: Watch) -> LoadedModule:
    """Import the module and find its task. Nothing of what it does escapes, but Ctrl-C."""
    captured = io.BytesIO()
    try:
        with watch, _captured(captured), watch.code_of_author():
            task = load_task(found.name)
    except TaskDefinitionError as error:
        return LoadedModule(found, None, error, _text(captured), watch.stuck)
    sys.stdout.write(_text(captured))  # as if it had been printed, for pytest to treat as usual
    return LoadedModule(found, task)


@contextlib.contextmanager
def _captured(target: io.BytesIO) -> Iterator[None]:
    output = OpenText(target)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        yield


def _text(captured: io.BytesIO) -> str:
    return captured.getvalue().decode(errors="replace")
