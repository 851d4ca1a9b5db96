"""Hints for violated guardrails: the nearest thing that does exist. Bounded in time, however large the tree."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from functools import cached_property

from perago.authoring.guardrails import ForbidGlob, Guardrail, RequireDir, RequireFile, RequireGlob
from perago.workspace.glob import compile_glob
from perago.workspace.text import quoted

_COMPARED = 500
"""How many names are compared letter by letter, those in the same directory first."""

_LONGEST = 200
"""Longer paths are not compared letter by letter."""

_WILD = frozenset("*?[")


class Surroundings:
    """The files and directories that exist, prepared only if a hint is needed."""

    def __init__(self, files: Collection[str], directories: Collection[str]) -> None:
        self.files = files
        self._empty = directories

    @cached_property
    def directories(self) -> frozenset[str]:
        """Every directory: those above a file, and those given."""
        found = set(self._empty)
        for path in self.files:
            above = path.rpartition("/")[0]
            while above and above not in found:
                found.add(above)
                above = above.rpartition("/")[0]
        return frozenset(found)


def hint(rule: Guardrail, around: Surroundings) -> str | None:
    """What the author may have meant by a rule that matched nothing, or None."""
    match rule:
        case RequireFile(path):
            return _for_file(path, around)
        case RequireDir(path):
            return _for_directory(path, around)
        case RequireGlob(pattern):
            return _for_pattern(pattern, around)
        case ForbidGlob():
            return None


def _for_file(path: str, around: Surroundings) -> str | None:
    if path in around.directories:
        return f"{quoted(path)} is a directory"
    return _file_in_the_way(path, around) or _nearest(path, around.files)


def _for_directory(path: str, around: Surroundings) -> str | None:
    if path in around.directories:
        return f"{quoted(path)} is an empty directory, and only files can be published"
    if path in around.files:
        return f"{quoted(path)} is a file"
    return _file_in_the_way(path, around) or _nearest(path, around.directories)


def _for_pattern(pattern: str, around: Surroundings) -> str | None:
    ignoring_case = compile_glob(pattern, ignore_case=True).fullmatch
    twin = min((path for path in around.files if ignoring_case(path)), default=None)
    if twin is not None:
        return f"case matters, and {quoted(twin)} differs in it"
    matches = compile_glob(pattern).fullmatch
    directory = min((path for path in around.directories if matches(path)), default=None)
    if directory is not None:
        return f"{quoted(directory)} is a directory, and a glob counts files"
    return _fixed_part(pattern, around) or _same_name_elsewhere(pattern, around)


def _fixed_part(pattern: str, around: Surroundings) -> str | None:
    """The directories before the first wildcard, if they are not there."""
    fixed = []
    for segment in pattern.split("/")[:-1]:
        if _WILD.intersection(segment):
            break
        fixed.append(segment)
    directory = "/".join(fixed)
    if not directory or directory in around.directories:
        return None
    if directory in around.files:
        return f"{quoted(directory)} is a file"
    return _file_in_the_way(directory, around) or _nearest(directory, around.directories)


def _same_name_elsewhere(pattern: str, around: Surroundings) -> str | None:
    """A file in another directory whose name matches the last segment, unless that matches every name."""
    name = pattern.rpartition("/")[2]
    if not name.strip("*"):
        return None
    matches = compile_glob(f"**/{name}").fullmatch
    elsewhere = min((path for path in around.files if matches(path)), default=None)
    return None if elsewhere is None else f"there is {quoted(elsewhere)}"


def _file_in_the_way(path: str, around: Surroundings) -> str | None:
    """A file where `path` needs a directory."""
    above = path.rpartition("/")[0]
    while above:
        if above in around.files:
            return f"{quoted(above)} is a file"
        above = above.rpartition("/")[0]
    return None


def _nearest(path: str, candidates: Iterable[str]) -> str | None:
    candidates = sorted(candidates)
    twin = next((candidate for candidate in candidates if candidate.casefold() == path.casefold()), None)
    if twin is not None:
        return f"case matters, and {quoted(twin)} differs in it"
    above, _, name = path.rpartition("/")
    namesake = next((candidate for candidate in candidates if candidate.rpartition("/")[2] == name), None)
    if namesake is not None:
        return f"did you mean {quoted(namesake)}?"
    siblings = [candidate for candidate in candidates if candidate.rpartition("/")[0] == above]
    others = candidates[:_COMPARED]
    pool = [candidate for candidate in (*siblings[:_COMPARED], *others)[:_COMPARED] if len(candidate) <= _LONGEST]
    close = difflib.get_close_matches(path[:_LONGEST], pool, n=1, cutoff=0.75)
    return f"did you mean {quoted(close[0])}?" if close else None
