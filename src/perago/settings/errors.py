"""What is wrong with the configuration, said once and completely."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right.

    `variable` is the variable's name, `where` its origin (`"environment"`, `".env:4"`, `""` for a variable that
    is not set), `message` what is wrong, `fix` what to do. None of them ever holds a secret.
    """

    variable: str
    where: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        advice = f" {self.fix}" if self.fix else ""
        return f"{self.variable}{place}: {self.message}.{advice}"


class ConfigurationError(Exception):
    """The configuration cannot be used. `details` holds every problem found, `problems` the same as text."""

    def __init__(self, details: Iterable[Problem]) -> None:
        self.details = tuple(details)
        self.problems = tuple(str(problem) for problem in self.details)
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.details,))
