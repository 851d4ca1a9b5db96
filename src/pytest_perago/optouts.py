"""`perago_skip`: tests that a project does not want, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

_LINE = re.compile(r"(?P<task>[A-Za-z0-9._-]+)(?:::(?P<test>\w+(?:\[.*?\])?))?:\s+(?P<reason>\S.*)")


@dataclass(frozen=True, slots=True)
class OptOut:
    """`test` is a kind (`run`) or one test (`run[minimal]`) of the task; None: all of them."""

    task: str
    test: str | None
    reason: str

    def covers(self, task: str, name: str) -> bool:
        """Whether the test called `name` of that task is meant."""
        return self.task == task and self.test in (None, name, name.partition("[")[0])


def parse_opt_outs(lines: Iterable[str]) -> tuple[OptOut, ...]:
    """The opt-outs of an ini file.

    Raises:
        pytest.UsageError: a line names no task, or gives no reason.
    """
    return tuple(_parse(line.strip()) for line in lines if line.strip())


def _parse(line: str) -> OptOut:
    match = _LINE.fullmatch(line)
    if match is None:
        raise pytest.UsageError(
            f"perago_skip: {line!r} is not `<task>: <reason>`, `<task>::<kind>: <reason>` or "
            "`<task>::<kind>[<label>]: <reason>`; the reason is needed, because it is shown after every run"
        )
    return OptOut(match["task"], match["test"], match["reason"])
