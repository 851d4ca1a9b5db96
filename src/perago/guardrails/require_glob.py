"""`require_glob("raw/**/*.csv", min_count=2)`: so many files must match."""

from __future__ import annotations

from dataclasses import dataclass

from perago.authoring.declaration import calling_line, declares
from perago.authoring.workspace import (
    Guardrail,
    Listing,
    Path,
    Verdict,
    declared_pattern,
)
from perago.guardrails.paths import for_pattern, found, matching


@dataclass(frozen=True, slots=True)
class RequireGlob(Guardrail):
    """From `min_count` to `max_count` files (None: any number) must match `pattern`."""

    pattern: str
    min_count: int = 1
    max_count: int | None = None

    def __str__(self) -> str:
        limit = "" if self.max_count is None else f", max_count={self.max_count}"
        return f"require_glob({self.pattern!r}, min_count={self.min_count}{limit})"

    @property
    def label(self) -> str:
        return f"require_glob({self.pattern})"

    def evaluate(self, tree: Listing) -> Verdict:
        matched = matching(self.pattern, tree)
        too_many = self.max_count is not None and len(matched) > self.max_count
        return Verdict(len(matched), found(matched) if too_many or len(matched) < self.min_count else None)

    def hint(self, tree: Listing) -> str | None:
        return for_pattern(self.pattern, tree)


@declares("require_glob")
def require_glob(pattern: Path, min_count: int = 1, max_count: int | None = None) -> RequireGlob:
    """At least `min_count` and at most `max_count` files (None: any number) must match `pattern`.

    Raises:
        TaskDefinitionError: not a relative pattern, or counts that no tree can satisfy.
    """
    canonical = declared_pattern("require_glob", pattern)
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


def _check_count(name: str, count: object) -> None:
    if isinstance(count, bool) or not isinstance(count, int):
        raise calling_line().error(
            f"require_glob: {name} must be a whole number, not {type(count).__name__}", fix=f"write {name}=1"
        )
    if count < 0:
        raise calling_line().error(
            f"require_glob: {name} is {count}, and a count cannot be negative", fix="use 0 or more"
        )
