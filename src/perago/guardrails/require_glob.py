"""`require_glob("raw/**/*.csv", min_count=2, min_bytes=1)`: so many files must match, each with so many bytes."""

from __future__ import annotations

from dataclasses import dataclass

from perago.authoring.declaration import calling_line, declares
from perago.authoring.workspace import Guardrail, Listing, Path, Rule, Verdict, declared_pattern
from perago.guardrails.paths import check_count, for_pattern, matched_text, matching, too_small, written_size


@dataclass(frozen=True, slots=True)
class RequireGlob(Rule):
    """From `min_count` to `max_count` files (None: any number) must match `pattern`, each with at least `min_bytes`."""

    pattern: str
    min_count: int = 1
    max_count: int | None = None
    min_bytes: int = 0

    def __str__(self) -> str:
        limit = "" if self.max_count is None else f", max_count={self.max_count}"
        return f"require_glob({self.pattern!r}, min_count={self.min_count}{limit}{written_size(self.min_bytes)})"

    def evaluate(self, tree: Listing) -> Verdict:
        matched = matching(self.pattern, tree)
        too_many = self.max_count is not None and len(matched) > self.max_count
        if too_many or len(matched) < self.min_count:
            return Verdict(len(matched), matched_text(matched))
        return Verdict(len(matched), too_small(matched, tree, self.min_bytes))

    def hint(self, tree: Listing) -> str | None:
        return for_pattern(self.pattern, tree)


@declares("require_glob")
def require_glob(pattern: Path, min_count: int = 1, max_count: int | None = None, min_bytes: int = 0) -> Guardrail:
    """At least `min_count` and at most `max_count` files (None: any number) must match `pattern`, each with at least
    `min_bytes` bytes.

    Raises:
        TaskDefinitionError: not a relative pattern, or numbers that no tree can satisfy.
    """
    canonical = declared_pattern("require_glob", pattern)
    check_count("require_glob", "min_count", min_count)
    check_count("require_glob", "min_bytes", min_bytes)
    if max_count is not None:
        check_count("require_glob", "max_count", max_count)
        if max_count < min_count:
            raise calling_line().error(
                f"require_glob({canonical!r}): max_count {max_count} is less than min_count {min_count}, "
                "so no tree can satisfy it",
                fix="raise max_count or lower min_count; to allow no match at all use forbid_glob",
            )
    return RequireGlob(canonical, min_count, max_count, min_bytes)
