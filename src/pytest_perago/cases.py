"""A case: one generated test, before it is a pytest item."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class Location:
    """Where a test comes from; `line` counts from 1."""

    file: Path
    line: int


@dataclass(frozen=True, slots=True)
class Case:
    """One test of a task. `call` is called with the named fixtures as keyword arguments.

    It raises `CaseFailed` if the task is at fault, `pytest.skip.Exception` if it cannot tell, and anything else if
    the harness is broken.
    """

    kind: str
    label: str
    """What stands in the brackets of the test's name; empty for no brackets."""
    call: Callable[..., None] = field(repr=False)
    fixtures: tuple[str, ...] = ()
    marks: tuple[pytest.MarkDecorator, ...] = ()
    location: Location | None = None
    """None: the task."""

    @property
    def name(self) -> str:
        """The last part of the node id."""
        return f"{self.kind}[{printable(self.label)}]" if self.label else self.kind


def printable(text: str) -> str:
    """The text without what a terminal or an environment variable cannot hold: control and surrogate characters."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def distinct(cases: Iterable[Case]) -> Iterator[Case]:
    """The cases with `#2`, `#3`... after a name that was there before."""
    seen: dict[str, int] = {}
    for case in cases:
        seen[case.name] = count = seen.get(case.name, 0) + 1
        yield case if count == 1 else replace(case, label=f"{case.label}#{count}")


def call_with_fixtures(case: Case) -> Callable[[pytest.FixtureRequest], Any]:
    """A test function for the case, marked with what pytest has to know about it."""

    def generated_test(request: pytest.FixtureRequest) -> None:
        case.call(**{name: request.getfixturevalue(name) for name in case.fixtures})

    marks = [pytest.mark.perago, *case.marks]
    if case.fixtures:
        marks.append(pytest.mark.usefixtures(*case.fixtures))
    for mark in marks:
        mark(generated_test)
    return generated_test
