"""What guardrails mean, a second time: slow, plain, and written from the documented rules alone
(docs/design/contract.md 2).

The fuzz tests compare the verdicts of the runtime with these. So this module shares nothing with the code that decides
in production: a mistake would have to be made twice, in two different ways, to stay unseen.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch

from perago.authoring.workspace import Guardrail
from perago.guardrails.forbid_glob import ForbidGlob
from perago.guardrails.require_dir import RequireDir
from perago.guardrails.require_file import RequireFile
from perago.guardrails.require_glob import RequireGlob
from perago.guardrails.require_table import RequireTable
from perago.testing import table_oracle
from perago.testing.tree_files import Tree, sizes_of


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a rule holds, and how many files it is about."""

    satisfied: bool
    matched: int


def judge(rule: Guardrail, files: Mapping[str, int]) -> Verdict:
    """The verdict on a tree with exactly these files: their paths relative to the workspace, and their sizes in bytes.

    Directories, symlinks and other things that are no files play no part in any rule. What is in the files plays none
    here; `judge_tree` asks for it.
    """
    counted = {path: size for path, size in files.items() if concerns(rule, path)}
    return Verdict(holds(rule, counted), len(counted))


def judge_tree(rule: Guardrail, tree: Tree) -> Verdict:
    """The verdict on a tree with these files, contents included."""
    verdict = judge(rule, sizes_of(tree))
    contents = {path: content for path, content in tree.items() if isinstance(content, str | bytes)}
    are_sound = all(
        is_sound(rule, content.encode() if isinstance(content, str) else content)
        for path, content in contents.items()
        if concerns(rule, path)
    )
    return Verdict(verdict.satisfied and are_sound, verdict.matched)


@singledispatch
def concerns(rule: Guardrail, path: str) -> bool:
    """Whether the file at `path` is one that the rule counts."""
    raise NotImplementedError(f"perago.testing.oracle does not know which files {type(rule).__name__} counts")


@singledispatch
def holds(rule: Guardrail, counted: Mapping[str, int]) -> bool:
    """Whether the rule holds, if these are the files that it counts, with their sizes in bytes."""
    raise NotImplementedError(f"perago.testing.oracle does not know when {type(rule).__name__} holds")


@singledispatch
def is_sound(rule: Guardrail, content: bytes) -> bool:  # noqa: ARG001 - for the rules that look into files
    """Whether a file that the rule counts may hold that."""
    return True


@is_sound.register
def _(rule: RequireTable, content: bytes) -> bool:
    return table_oracle.is_sound(rule.rule, content)


@concerns.register
def _(rule: RequireFile, path: str) -> bool:
    return path.split("/") == rule.path.split("/")


@concerns.register
def _(rule: RequireDir, path: str) -> bool:
    segments, above = path.split("/"), rule.path.split("/")
    return len(segments) > len(above) and segments[: len(above)] == above


@concerns.register
def _(rule: RequireGlob | ForbidGlob | RequireTable, path: str) -> bool:
    return glob_matches(rule.pattern, path)


@holds.register
def _(_: RequireFile | RequireDir | RequireTable, counted: Mapping[str, int]) -> bool:
    return len(counted) >= 1


@holds.register
def _(rule: RequireGlob, counted: Mapping[str, int]) -> bool:
    return len(counted) >= rule.min_count and (rule.max_count is None or len(counted) <= rule.max_count)


@holds.register
def _(_: ForbidGlob, counted: Mapping[str, int]) -> bool:
    return not counted


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
