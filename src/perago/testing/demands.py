"""Guardrails as demands: how many files of a set of paths a tree may hold. What a rule implies is a demand, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perago.authoring.guardrails import ForbidGlob, Guardrail, RequireDir, RequireFile, RequireGlob
from perago.testing.globs import Kind, PathSet, below, matching, name_places, only

RESERVED = "_lakefs_actions"
"""The directory of lakeFS hooks."""


@dataclass(frozen=True, slots=True)
class Demand:
    """From `least` to `most` files (None: any number) of a set. `plain` is a part of it that people like to read."""

    paths: PathSet
    plain: PathSet
    least: int
    most: int | None


def demand_of(rule: Guardrail) -> Demand:
    """What the rule says."""
    match rule:
        case RequireFile(path):
            return Demand(only(path), only(path), 1, None)
        case RequireDir(path):
            plain = PathSet((*only(f"{path}/").places, *name_places("*", plainly=True)))
            return Demand(below(path), plain, 1, None)
        case RequireGlob(pattern, least, most):
            return Demand(matching(pattern), matching(pattern, plainly=True), least, most)
        case ForbidGlob(pattern):
            return Demand(matching(pattern), matching(pattern, plainly=True), 0, 0)


def forbidden_by(rule: Guardrail) -> Iterator[PathSet]:
    """Where no file can be, because the rule needs a directory there, or a file above."""
    if isinstance(rule, RequireFile):
        yield below(rule.path)
    for directory in directories_for(rule):
        yield only(directory)


def directories_for(rule: Guardrail) -> list[str]:
    """The directories that must be there for the rule to hold, the outermost first."""
    match rule:
        case RequireFile(path):
            return _above(path.split("/"))
        case RequireDir(path):
            return [*_above(path.split("/")), path]
        case RequireGlob(pattern, least) if least:
            fixed: list[str] = []
            for segment in pattern.split("/"):
                if segment == "**" or any(place.kind is not Kind.EXACTLY for place in name_places(segment)):
                    return _above([*fixed, segment])
                fixed.append(segment)
            return _above(fixed)
    return []


def reserved_paths(key_prefix: str) -> Sequence[PathSet]:
    """What is never part of a workspace (docs/design/contract.md 2)."""
    return () if key_prefix else (only(RESERVED), below(RESERVED))


def _above(segments: Sequence[str]) -> list[str]:
    return ["/".join(segments[:depth]) for depth in range(1, len(segments))]
