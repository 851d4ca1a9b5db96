"""The internal message between the checks of a declaration and the place that knows file and line."""

from __future__ import annotations


class Broken(Exception):
    """A rule that a declaration breaks, and how to obey it."""

    def __init__(self, rule: str, fix: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.fix = fix
