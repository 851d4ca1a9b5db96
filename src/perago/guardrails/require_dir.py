"""`require_dir("raw")`: a directory with at least one file must be there."""

from __future__ import annotations

from dataclasses import dataclass

from perago.authoring.declaration import declares
from perago.authoring.workspace import Guardrail, Listing, Path, Rule, Verdict, declared_path
from perago.guardrails.paths import file_in_the_way, nearest
from perago.text import quoted


@dataclass(frozen=True, slots=True)
class RequireDir(Rule):
    """At least one file must be below `path`: object stores have no empty directories."""

    path: str

    def __str__(self) -> str:
        return f"require_dir({self.path!r})"

    def evaluate(self, tree: Listing) -> Verdict:
        matched = sum(file.startswith(f"{self.path}/") for file in tree.sizes)
        return Verdict(matched, None if matched else "no file below it")

    def hint(self, tree: Listing) -> str | None:
        if self.path in tree.directories:
            return f"{quoted(self.path)} is an empty directory, and only files can be published"
        if self.path in tree.sizes:
            return f"{quoted(self.path)} is a file"
        return file_in_the_way(self.path, tree) or nearest(self.path, tree.directories)


@declares("require_dir")
def require_dir(path: Path) -> Guardrail:
    """At least one file must be below the directory `path`.

    Raises:
        TaskDefinitionError: not a relative path inside the workspace.
    """
    return RequireDir(declared_path("require_dir", path))
