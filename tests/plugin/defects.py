"""Defects that are planted into the runtime, as text of a conftest. Each is one that people really make."""

from __future__ import annotations

_HEAD = """
import re
from hypothesis import settings
from perago.authoring.guardrails import RequireDir, RequireGlob
from perago.workspace import guardrails, scan

compile_glob, complaint, matches, sort = (
    guardrails.compile_glob, guardrails._complaint, guardrails._matches, scan._Scan._sort
)

class Pattern:
    def __init__(self, pattern):
        self.fullmatch = lambda path: self.match(compile_glob(pattern), path)
"""

DEFECTS = {
    "case is ignored": """
guardrails.compile_glob = lambda pattern: re.compile(compile_glob(pattern).pattern, re.IGNORECASE)
""",
    "two stars take at least one directory": """
guardrails.compile_glob = lambda pattern: compile_glob(re.sub(r"(^|/)[*][*]/", r"\\1**/*/", pattern))
""",
    "dotfiles are hidden from patterns": """
class Dots(Pattern):
    def match(self, regex, path):
        return None if any(name.startswith(".") for name in path.split("/")) else regex.fullmatch(path)
guardrails.compile_glob = Dots
""",
    "a pattern may match the beginning": """
class Beginning(Pattern):
    def match(self, regex, path):
        return regex.match(path)
guardrails.compile_glob = Beginning
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
descent._DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
def descend(self, path, entry):
    if entry.is_symlink() and entry.is_dir():
        self.directories.append(path)
        self.pending.append(path)
    else:
        sort(self, path, entry)
scan._Scan._sort = descend
""",
    "min_count is one too high": """
def strict(rule, matched):
    if isinstance(rule, RequireGlob) and len(matched) == rule.min_count > 0:
        return "too few"
    return complaint(rule, matched)
guardrails._complaint = strict
""",
    "min_count is one too low": """
def lax(rule, matched):
    return None if isinstance(rule, RequireGlob) and len(matched) == rule.min_count - 1 else complaint(rule, matched)
guardrails._complaint = lax
""",
    "max_count is one too low": """
def strict(rule, matched):
    return "too many" if isinstance(rule, RequireGlob) and len(matched) == rule.max_count else complaint(rule, matched)
guardrails._complaint = strict
""",
    "max_count is one too high": """
def lax(rule, matched):
    if isinstance(rule, RequireGlob) and len(matched) - 1 == rule.max_count:
        return None
    return complaint(rule, matched)
guardrails._complaint = lax
""",
    "a directory is every name that begins like it": """
def begins(rule, paths):
    if isinstance(rule, RequireDir):
        return [path for path in paths if path.startswith(rule.path)]
    return matches(rule, paths)
guardrails._matches = begins
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
