"""`forbid_glob("**/*.tmp")`: no file may match."""

from __future__ import annotations

from dataclasses import dataclass

from perago.authoring.declaration import declares
from perago.authoring.workspace import Guardrail, Listing, Path, Rule, Verdict, declared_pattern
from perago.guardrails.paths import matched_text, matching


@dataclass(frozen=True, slots=True)
class ForbidGlob(Rule):
    """No file may match `pattern`."""

    pattern: str

    def __str__(self) -> str:
        return f"forbid_glob({self.pattern!r})"

    def evaluate(self, tree: Listing) -> Verdict:
        matched = matching(self.pattern, tree)
        return Verdict(len(matched), matched_text(matched) if matched else None)


@declares("forbid_glob")
def forbid_glob(pattern: Path) -> Guardrail:
    """No file may match `pattern`.

    Raises:
        TaskDefinitionError: the pattern is not relative, or not inside the workspace.
    """
    return ForbidGlob(declared_pattern("forbid_glob", pattern))
