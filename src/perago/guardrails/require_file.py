"""`require_file("config.json", min_bytes=1)`: a file must be there, and have so many bytes."""

from __future__ import annotations

from dataclasses import dataclass

from perago.authoring.declaration import declares
from perago.authoring.workspace import Guardrail, Listing, Path, Rule, Verdict, declared_path
from perago.guardrails.paths import check_count, file_in_the_way, nearest, too_small, with_suffix_of, written_size
from perago.text import quoted


@dataclass(frozen=True, slots=True)
class RequireFile(Rule):
    """A file with at least `min_bytes` bytes must be at `path`."""

    path: str
    min_bytes: int = 0

    def __str__(self) -> str:
        return f"require_file({self.path!r}{written_size(self.min_bytes)})"

    def evaluate(self, tree: Listing) -> Verdict:
        if self.path not in tree.sizes:
            return Verdict(0, "no such file")
        return Verdict(1, too_small([self.path], tree, self.min_bytes))

    def hint(self, tree: Listing) -> str | None:
        if self.path in tree.directories:
            return f"{quoted(self.path)} is a directory"
        return (
            file_in_the_way(self.path, tree)
            or nearest(self.path, tree.sizes)
            or with_suffix_of(self.path.rpartition("/")[2], tree)
        )


@declares("require_file")
def require_file(path: Path, min_bytes: int = 0) -> Guardrail:
    """A file with at least `min_bytes` bytes must be at `path`.

    Raises:
        TaskDefinitionError: not a relative path inside the workspace, or not a number of bytes.
    """
    canonical = declared_path("require_file", path)
    check_count("require_file", "min_bytes", min_bytes)
    return RequireFile(canonical, min_bytes)
