"""The error that ends a command wherever it is raised. It has its own module, because every room may raise it."""

from __future__ import annotations


class Failure(Exception):
    """A request that cannot be met. `message` says what happened, and `fix` what to do, or it is empty."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
