"""Defects that are planted into the runtime for one test. Each is one that people really make."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from perago.authoring.workspace import Verdict
from perago.guardrails import paths
from perago.guardrails.require_dir import RequireDir
from perago.guardrails.require_glob import RequireGlob
from perago.workspace import scan
from perago.workspace.keys import compile_glob

_COMPILE, _EVALUATE, _SORT = compile_glob, RequireGlob.evaluate, scan._Scan._sort


class _Pattern:
    """A pattern that matches in a wrong way."""

    def __init__(self, pattern: str, match: Callable[[re.Pattern[str], str], object]) -> None:
        regex = _COMPILE(pattern)
        self.fullmatch = lambda path: match(regex, path)


def _matching(match: Callable[[re.Pattern[str], str], object]) -> dict[str, Any]:
    return _compiling(lambda pattern: _Pattern(pattern, match))


def _compiling(compiled: Callable[[str], Any]) -> dict[str, Any]:
    def compile_glob(pattern: str, **hints: Any) -> Any:
        return _COMPILE(pattern, **hints) if hints else compiled(pattern)

    return {"compile_glob": compile_glob}


def _judging(verdict: Callable[[Any, Verdict], Verdict]) -> dict[str, Any]:
    return {"evaluate": lambda rule, tree: verdict(rule, _EVALUATE(rule, tree))}


def _hide_dotfiles(regex: re.Pattern[str], path: str) -> object:
    return None if any(name.startswith(".") for name in path.split("/")) else regex.fullmatch(path)


def _follow_link(self: Any, path: str, entry: Any) -> None:
    if entry.is_symlink() and entry.is_file():
        self.files[path] = scan.FileStat.of(entry.stat())
    else:
        _SORT(self, path, entry)


def _enter_link(self: Any, path: str, entry: Any) -> None:
    if entry.is_symlink() and entry.is_dir():
        self.directories.append(path)
        self.pending.append(path)
    else:
        _SORT(self, path, entry)


def _count_directory(self: Any, path: str, entry: Any) -> None:
    _SORT(self, path, entry)
    if entry.is_dir(follow_symlinks=False):
        self.files[path] = scan.FileStat.of(entry.stat())


def _begins(rule: Any, tree: Any) -> Verdict:
    matched = sum(path.startswith(rule.path) for path in tree.sizes)
    return Verdict(matched, None if matched else "no file below it")


DEFECTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "case is ignored": (
        paths,
        _compiling(lambda pattern: re.compile(_COMPILE(pattern).pattern, re.IGNORECASE)),
    ),
    "two stars take at least one directory": (
        paths,
        _compiling(lambda pattern: _COMPILE(re.sub(r"(^|/)[*][*]/", r"\1**/*/", pattern))),
    ),
    "dotfiles are hidden from patterns": (paths, _matching(_hide_dotfiles)),
    "a pattern may match the beginning": (paths, _matching(lambda regex, path: regex.match(path))),
    "symlinks are followed": (scan._Scan, {"_sort": _follow_link}),
    "linked directories are looked into": (scan._Scan, {"_sort": _enter_link}),
    "directories count as files": (scan._Scan, {"_sort": _count_directory}),
    "min_count is one too high": (
        RequireGlob,
        _judging(
            lambda rule, verdict: (
                Verdict(verdict.matched, "too few")
                if verdict.matched == rule.min_count and verdict.matched
                else verdict
            )
        ),
    ),
    "min_count is one too low": (
        RequireGlob,
        _judging(lambda rule, verdict: Verdict(verdict.matched) if verdict.matched == rule.min_count - 1 else verdict),
    ),
    "max_count is one too low": (
        RequireGlob,
        _judging(
            lambda rule, verdict: Verdict(verdict.matched, "too many") if verdict.matched == rule.max_count else verdict
        ),
    ),
    "max_count is one too high": (
        RequireGlob,
        _judging(lambda rule, verdict: Verdict(verdict.matched) if verdict.matched - 1 == rule.max_count else verdict),
    ),
    "a directory is every name that begins like it": (RequireDir, {"evaluate": _begins}),
}
"""What is wrong: the owner of the members that are replaced, and what takes their place."""


def plant(monkeypatch: pytest.MonkeyPatch, defect: str) -> None:
    """Plant a defect until the end of the test."""
    owner, members = DEFECTS[defect]
    for name, member in members.items():
        monkeypatch.setattr(owner, name, member)
    if defect == "linked directories are looked into":
        monkeypatch.setattr(scan, "DIRECTORY", os.O_RDONLY | os.O_DIRECTORY)
