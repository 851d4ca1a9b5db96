"""The error that ends a command, and the findings of `perago doctor`. Every room can raise and return them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Failure(Exception):
    """A request that cannot be met. `message` says what happened, and `fix` what to do, or it is empty."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    UNTRIED = "untried"
    """Cannot be checked without a change."""
    WARNING = "warning"
    """Attempts work, but something should be repaired."""
    PROBLEM = "problem"
    """Attempts fail, or are not safe."""


class Cause(StrEnum):
    """The origin of a problem, which decides the exit code."""

    MODULE = "module"
    CONFIGURATION = "configuration"
    SERVER = "server"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `why` names the consequence, `advice` the next step; both are empty for `OK`."""

    area: str
    level: Level
    what: str
    why: str = ""
    advice: str = ""
    cause: Cause = Cause.OTHER
