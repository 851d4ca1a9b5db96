"""Which files of its part of the repository a task sees (docs/design/contract.md 2, WorkspaceSpec). Pure.

    View(include=("raw/2024/**",), exclude=("**/*.bak",))

sees `raw/2024/a.csv`, and neither `raw/2023/a.csv` nor `raw/2024/a.bak`. The patterns are those of guardrails.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from perago.authoring.workspace import WorkspaceSpec
from perago.workspace.glob import compile_glob
from perago.workspace.keys import directories_above


@dataclass(frozen=True, slots=True)
class View:
    """What a path must match, one of it, and what it must not match. Without `include` every path is included."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: WorkspaceSpec) -> View:
        """What a task with this workspace sees."""
        return cls(spec.include, spec.exclude)

    def sees(self, path: str) -> bool:
        """Whether a file at this path is part of the workspace. A directory marker `x/` is if files in `x` can be."""
        if path.endswith("/"):
            path += "-"
        included = not self.include or any(compile_glob(pattern).fullmatch(path) for pattern in self.include)
        return included and not any(compile_glob(pattern).fullmatch(path) for pattern in self.exclude)

    def trespasses(self, written: Iterable[str], hidden: Collection[str]) -> Iterator[tuple[str, str]]:
        """The files of a workspace that are not the task's to write, each with what is wrong with it.

        Args:
            written: all files of the workspace.
            hidden: the files of the same tree that the task does not see, and directory markers such as `x/`.
        """
        if self == EVERYTHING:
            return
        directories = {above for path in hidden for above in directories_above(path)}
        for path in written:
            if path in hidden:
                yield path, "is there already, where the task does not see it"
            elif not self.sees(path):
                yield path, "is not part of what the task sees"
            elif path in directories:
                yield path, "is a directory in the part that the task does not see"
            elif blocking := next((above for above in directories_above(path) if above in hidden), None):
                yield path, f"needs a directory at {blocking!r}, a file that the task does not see"


EVERYTHING = View()
