"""A rule that perago does not have: every matching file has at least one byte.

It is all that a rule takes, and shows that a rule need not be a count of paths. `test_kinds` treats it like the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perago.authoring.declaration import declares
from perago.authoring.workspace import (
    Guardrail,
    Listing,
    Path,
    Rule,
    Verdict,
    declared_pattern,
)
from perago.guardrails.paths import matching
from perago.testing import oracle
from perago.testing.constraints import CountConstraint, FileSelection, Recipe, recipe_of
from perago.text import listing, quoted


@dataclass(frozen=True, slots=True)
class RequireBytes(Rule):
    """Every file that matches `pattern` has at least one byte."""

    pattern: str

    def __str__(self) -> str:
        return f"require_bytes({self.pattern!r})"

    @property
    def label(self) -> str:
        return f"require_bytes({self.pattern})"

    def evaluate(self, tree: Listing) -> Verdict:
        matched = matching(self.pattern, tree)
        empty = [quoted(path) for path in sorted(matched) if not tree.sizes[path]]
        return Verdict(len(matched), f"empty: {listing(empty)}" if empty else None)


@declares("require_bytes")
def require_bytes(pattern: Path) -> Guardrail:
    """Every file that matches `pattern` must have at least one byte.

    Raises:
        TaskDefinitionError: not a relative pattern inside the workspace.
    """
    return RequireBytes(declared_pattern("require_bytes", pattern))


@oracle.concerns.register
def _(rule: RequireBytes, path: str) -> bool:
    return oracle.glob_matches(rule.pattern, path)


@oracle.holds.register
def _(_: RequireBytes, counted: Mapping[str, int]) -> bool:
    return 0 not in counted.values()


@recipe_of.register
def _(rule: RequireBytes) -> Recipe:
    files = FileSelection(pattern=rule.pattern)
    empty = [CountConstraint(files, 1, 1, content=""), CountConstraint(files, 1, content="")]
    return Recipe(CountConstraint(files, content="x"), {"empty": empty})
