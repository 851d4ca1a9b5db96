"""Defects that are planted into the runtime, as text of a conftest. Each is one that people really make."""

from __future__ import annotations

_HEAD = """
import re
from hypothesis import settings
from perago.authoring.guardrails import Verdict
from perago.guardrails import paths
from perago.guardrails.require_dir import RequireDir
from perago.guardrails.require_glob import RequireGlob
from perago.workspace import scan

compile_glob, evaluate, sort = paths.compile_glob, RequireGlob.evaluate, scan._Scan._sort

def plant(planted):
    paths.compile_glob = lambda pattern, **hints: compile_glob(pattern, **hints) if hints else planted(pattern)

class Pattern:
    def __init__(self, pattern):
        self.fullmatch = lambda path: self.match(compile_glob(pattern), path)
"""

DEFECTS = {
    "case is ignored": """
plant(lambda pattern: re.compile(compile_glob(pattern).pattern, re.IGNORECASE))
""",
    "two stars take at least one directory": """
plant(lambda pattern: compile_glob(re.sub(r"(^|/)[*][*]/", r"\\1**/*/", pattern)))
""",
    "dotfiles are hidden from patterns": """
class Dots(Pattern):
    def match(self, regex, path):
        return None if any(name.startswith(".") for name in path.split("/")) else regex.fullmatch(path)
plant(Dots)
""",
    "a pattern may match the beginning": """
class Beginning(Pattern):
    def match(self, regex, path):
        return regex.match(path)
plant(Beginning)
""",
    "symlinks are followed": """
def follow(self, path, entry):
    if entry.is_symlink() and entry.is_file():
        self.files[path] = scan.FileStat.of(entry.stat())
    else:
        sort(self, path, entry)
scan._Scan._sort = follow
""",
    "linked directories are looked into": """
import os
from perago.workspace import descent
descent.DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
def descend(self, path, entry):
    if entry.is_symlink() and entry.is_dir():
        self.directories.append(path)
        self.pending.append(path)
    else:
        sort(self, path, entry)
scan._Scan._sort = descend
""",
    "min_count is one too high": """
def strict(rule, tree):
    verdict = evaluate(rule, tree)
    return Verdict(verdict.matched, "too few") if verdict.matched == rule.min_count > 0 else verdict
RequireGlob.evaluate = strict
""",
    "min_count is one too low": """
def lax(rule, tree):
    verdict = evaluate(rule, tree)
    return Verdict(verdict.matched) if verdict.matched == rule.min_count - 1 else verdict
RequireGlob.evaluate = lax
""",
    "max_count is one too low": """
def strict(rule, tree):
    verdict = evaluate(rule, tree)
    return Verdict(verdict.matched, "too many") if verdict.matched == rule.max_count else verdict
RequireGlob.evaluate = strict
""",
    "max_count is one too high": """
def lax(rule, tree):
    verdict = evaluate(rule, tree)
    return Verdict(verdict.matched) if verdict.matched - 1 == rule.max_count else verdict
RequireGlob.evaluate = lax
""",
    "a directory is every name that begins like it": """
def begins(rule, tree):
    matched = sum(path.startswith(rule.path) for path in tree.sizes)
    return Verdict(matched, None if matched else "no file below it")
RequireDir.evaluate = begins
""",
    "directories count as files": """
def also(self, path, entry):
    sort(self, path, entry)
    if entry.is_dir(follow_symlinks=False):
        self.files[path] = scan.FileStat.of(entry.stat())
scan._Scan._sort = also
""",
}
"""What is wrong, and how."""


def planted(defect: str) -> str:
    """The conftest that plants it."""
    return _HEAD + DEFECTS[defect]
