"""Guardrails: rules about the shape of the tree before and after the task function (docs/design/contract.md 2).

Here they are only declared; `perago.workspace` evaluates them. A glob counts files, `**` matches zero or more
directories, and everything is case-sensitive.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from perago.authoring.paths import canonical_path, canonical_pattern
from perago.authoring.source import calling_line, declares

Path: TypeAlias = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class RequireFile:
    """A file must be at `path`."""

    path: str

    def __str__(self) -> str:
        return f"require_file({self.path!r})"


@dataclass(frozen=True, slots=True)
class RequireDir:
    """At least one file must be below `path`: object stores have no empty directories."""

    path: str

    def __str__(self) -> str:
        return f"require_dir({self.path!r})"


@dataclass(frozen=True, slots=True)
class RequireGlob:
    """From `min_count` to `max_count` files (None: any number) must match `pattern`."""

    pattern: str
    min_count: int = 1
    max_count: int | None = None

    def __str__(self) -> str:
        limit = "" if self.max_count is None else f", max_count={self.max_count}"
        return f"require_glob({self.pattern!r}, min_count={self.min_count}{limit})"


@dataclass(frozen=True, slots=True)
class ForbidGlob:
    """No file may match `pattern`."""

    pattern: str

    def __str__(self) -> str:
        return f"forbid_glob({self.pattern!r})"


Guardrail: TypeAlias = RequireFile | RequireDir | RequireGlob | ForbidGlob
GUARDRAIL_TYPES = (RequireFile, RequireDir, RequireGlob, ForbidGlob)


@declares("require_file")
def require_file(path: Path) -> RequireFile:
    """A file must be at `path`.

    Raises:
        TaskDefinitionError: not a relative path inside the workspace.
    """
    return RequireFile(_canonical("require_file", canonical_path, path))


@declares("require_dir")
def require_dir(path: Path) -> RequireDir:
    """At least one file must be below the directory `path`.

    Raises:
        TaskDefinitionError: not a relative path inside the workspace.
    """
    return RequireDir(_canonical("require_dir", canonical_path, path))


@declares("require_glob")
def require_glob(pattern: Path, min_count: int = 1, max_count: int | None = None) -> RequireGlob:
    """At least `min_count` and at most `max_count` files (None: any number) must match `pattern`.

    Raises:
        TaskDefinitionError: not a relative pattern, or counts that no tree can satisfy.
    """
    canonical = _canonical("require_glob", canonical_pattern, pattern)
    _check_count("min_count", min_count)
    if max_count is not None:
        _check_count("max_count", max_count)
        if max_count < min_count:
            raise calling_line().error(
                f"require_glob({canonical!r}): max_count {max_count} is less than min_count {min_count}, "
                "so no tree can satisfy it",
                fix="raise max_count or lower min_count; to allow no match at all use forbid_glob",
            )
    return RequireGlob(canonical, min_count, max_count)


@declares("forbid_glob")
def forbid_glob(pattern: Path) -> ForbidGlob:
    """No file may match `pattern`.

    Raises:
        TaskDefinitionError: not a relative pattern inside the workspace.
    """
    return ForbidGlob(_canonical("forbid_glob", canonical_pattern, pattern))


def _canonical(rule: str, canonicalise: Callable[[object], str], path: object) -> str:
    try:
        return canonicalise(path)
    except ValueError as error:
        raise calling_line().error(
            f"{rule}: {error}", fix="use a relative path with forward slashes, such as 'raw/a.csv'"
        ) from None


def _check_count(name: str, count: object) -> None:
    if isinstance(count, bool) or not isinstance(count, int):
        raise calling_line().error(
            f"require_glob: {name} must be a whole number, not {type(count).__name__}", fix=f"write {name}=1"
        )
    if count < 0:
        raise calling_line().error(
            f"require_glob: {name} is {count}, and a count cannot be negative", fix="use 0 or more"
        )
