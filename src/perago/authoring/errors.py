"""The exceptions of the authoring API.

`TaskFailed` and `TaskTerminalError` are raised by task functions; `TaskDefinitionError` is raised at import,
by perago, for a declaration that cannot work.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any


class TaskFailed(Exception):
    """Raise it in a task function: the attempt failed and may be tried again. The message becomes the reason."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class TaskTerminalError(Exception):
    """Raise it in a task function: the step failed for good, a retry would not help. The message becomes the reason."""

    def __init__(self, message: str) -> None:
        super().__init__(message)


class TaskDefinitionError(Exception):
    """A task module or a declaration in it is not valid.

    `message` says what is wrong, `fix` what to do about it; `file` and `line` (from 1) say where the author wrote
    it, or are None where there is no such place, as for a module that does not exist.
    """

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, fix: str | None = None
    ) -> None:
        """An error at a place in the author's code.

        Args:
            message: What is wrong.
            file: The file; None where there is no such place.
            line: The line, from 1; None where there is no such place.
            fix: What to do about it.
        """
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line
        self.fix = fix

    def __str__(self) -> str:
        where = f"{readable_path(self.file)}:{self.line}: " if self.file and self.line else ""
        if self.file and not self.line:
            where = f"{readable_path(self.file)}: "
        fix = f"\n  fix: {self.fix}" if self.fix else ""
        return f"{where}{self.message}{fix}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (functools.partial(type(self), file=self.file, line=self.line, fix=self.fix), (self.message,))


def readable_path(file: str) -> str:
    """The path as a person in the current directory would write it."""
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return file


class InvalidDeclaration(Exception):
    """A rule that a declaration breaks, and how to obey it. It goes from a check to the place that knows file and line,
    where it becomes a `TaskDefinitionError`."""

    def __init__(self, rule: str, fix: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.fix = fix
