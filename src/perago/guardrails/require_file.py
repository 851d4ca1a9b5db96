"""`require_file("config.json")`: a file must be there."""

from __future__ import annotations

from dataclasses import dataclass

from perago.authoring.declaration import declares
from perago.authoring.workspace import Guardrail, Listing, Path, Verdict, declared_path
from perago.guardrails.paths import file_in_the_way, nearest
from perago.text import quoted


@dataclass(frozen=True, slots=True)
class RequireFile(Guardrail):
    """A file must be at `path`."""

    path: str

    def __str__(self) -> str:
        return f"require_file({self.path!r})"

    @property
    def label(self) -> str:
        return f"require_file({self.path})"

    def evaluate(self, tree: Listing) -> Verdict:
        return Verdict(1) if self.path in tree.sizes else Verdict(0, "no such file")

    def hint(self, tree: Listing) -> str | None:
        if self.path in tree.directories:
            return f"{quoted(self.path)} is a directory"
        return file_in_the_way(self.path, tree) or nearest(self.path, tree.sizes)


@declares("require_file")
def require_file(path: Path) -> RequireFile:
    """A file must be at `path`.

    Raises:
        TaskDefinitionError: not a relative path inside the workspace.
    """
    return RequireFile(declared_path("require_file", path))
