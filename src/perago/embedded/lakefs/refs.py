"""Ref expressions: `main`, `main@`, `main$`, `main~2`, `main^1`, commit ids and unique prefixes of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from perago.embedded.lakefs.errors import Invalid

INVALID_REF = "ref: invalid value: validation error"
SHOULD_BE_A_COMMIT = f"{INVALID_REF}: should point to a commit"
"""What some calls say about a branch with its staged changes (`main$`)."""

_MODIFIER = re.compile(r"[~^@$][^~^@$]*")
_BASE = re.compile(r"[^~^@$]+")
_NUMBER = re.compile(r"[+-]?[0-9]+")


class View(StrEnum):
    """What reading a ref shows."""

    COMMITTED = "committed"
    STAGED = "staged"
    """A bare branch, or a branch with `$`: staged changes over the head."""


@dataclass(frozen=True, slots=True)
class Step:
    """One modifier: `~N` follows first parents N times, `^N` takes the N-th parent, `@` and `$` choose a view."""

    mark: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class RefExpression:
    """A parsed ref: a name and what follows it, in order."""

    name: str
    steps: tuple[Step, ...]

    @property
    def suffix(self) -> str:
        """`@` or `$` if that is all there is behind the name, else `""`."""
        return self.steps[0].mark if len(self.steps) == 1 and self.steps[0].mark in "@$" else ""


@dataclass(frozen=True, slots=True)
class ResolvedRef:
    """What a ref points at. `branch` is set for a branch without steps."""

    commit_id: str
    branch: str | None = None
    view: View = View.COMMITTED
    explicit_staging: bool = False
    """Written with `$`: not a commit, so no source of a branch or merge."""


def parse_ref(text: str) -> RefExpression:
    """Take a ref expression apart.

    Raises:
        Invalid: no name, a step that is not a number, or a number behind `@` or `$`.
    """
    base = _BASE.match(text)
    if base is None:
        raise Invalid(INVALID_REF)
    return RefExpression(base.group(), tuple(map(_step, _MODIFIER.findall(text, base.end()))))


def _step(modifier: str) -> Step:
    mark, number = modifier[0], modifier[1:]
    if mark in "@$":
        if number:
            raise Invalid(INVALID_REF)
        return Step(mark)
    if number and not _NUMBER.fullmatch(number):
        raise Invalid(f"could not parse modifier {modifier}: {INVALID_REF}")
    return Step(mark, int(number or "1"))
