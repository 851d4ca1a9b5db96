"""What guardrails mean, a second time: slow, plain, and written from the documented rules alone
(docs/design/contract.md 2).

The fuzz tests compare the verdicts of the runtime with these. So this module shares nothing with the code that decides
in production: a mistake would have to be made twice, in two different ways, to stay unseen.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from perago.authoring.guardrails import ForbidGlob, Guardrail, RequireDir, RequireFile, RequireGlob


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a rule holds, and how many files it is about."""

    satisfied: bool
    matched: int


def judge(rule: Guardrail, files: Collection[str]) -> Verdict:
    """The verdict on a tree with exactly these files, by their paths relative to the workspace.

    Directories, symlinks and other things that are no files play no part in any rule.
    """
    matched = sum(concerns(rule, path) for path in files)
    match rule:
        case RequireFile() | RequireDir():
            return Verdict(matched >= 1, matched)
        case RequireGlob(_, least, most):
            return Verdict(matched >= least and (most is None or matched <= most), matched)
        case ForbidGlob():
            return Verdict(matched == 0, matched)


def concerns(rule: Guardrail, path: str) -> bool:
    """Whether the file at `path` is one that the rule counts."""
    segments = path.split("/")
    match rule:
        case RequireFile(required):
            return segments == required.split("/")
        case RequireDir(directory):
            above = directory.split("/")
            return len(segments) > len(above) and segments[: len(above)] == above
        case RequireGlob(pattern) | ForbidGlob(pattern):
            return glob_matches(pattern, path)


def glob_matches(pattern: str, path: str) -> bool:
    """Whether the pattern matches the whole path of a file."""
    return _matches(pattern.split("/"), path.split("/"))


def is_in_prefix(prefix: str, key: str) -> bool:
    """Whether the object `key` of the repository is a file of a workspace with this canonical prefix."""
    segments, above = key.split("/"), prefix.split("/") if prefix else []
    if segments[0] == "_lakefs_actions":
        return False
    return len(segments) > len(above) and segments[: len(above)] == above


def _matches(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """Segment by segment. `**` is zero directories, or it takes one and is asked again."""
    if not pattern:
        return not path
    if not path:
        return False
    first, *rest = pattern
    if first == "**" and not rest:  # every file below
        return True
    if first == "**":
        return _matches(rest, path) or _matches(pattern, path[1:])
    return fnmatch.fnmatchcase(path[0], first) and _matches(rest, path[1:])
