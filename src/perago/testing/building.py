"""Trees of files: as a mapping, and on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symlink with this target, relative to its own directory. A target that lies outside of the tree is made, too:
    a directory with these files, or a file if `holding` is empty."""

    target: str
    holding: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Symlink({self.target!r}{f', {self.holding!r}' if self.holding else ''})"


Tree: TypeAlias = Mapping[str, str | bytes | Symlink | None]
"""Relative paths with `/`, and their contents; None is a directory."""


@contextmanager
def build(tree: Tree) -> Iterator[Path]:
    """The tree on disk, in memory where the system allows it, until the end of the `with` block."""
    with tempfile.TemporaryDirectory(prefix="perago-tree-", dir=fast_directory()) as scratch:
        root = Path(scratch, "workspace")
        root.mkdir()
        write_tree(root, tree)
        yield root


def write_tree(root: Path, tree: Tree) -> None:
    """Write the tree into a directory."""
    made = {root}
    for path, content in tree.items():
        place = root / path
        parent = place if content is None else place.parent
        if parent not in made:
            parent.mkdir(parents=True, exist_ok=True)
            made.add(parent)
        if isinstance(content, Symlink):
            place.symlink_to(content.target)
            _make_target(root, place.parent / content.target, content.holding)
        elif content is not None:
            place.write_bytes(content.encode() if isinstance(content, str) else content)


def sizes_of(tree: Tree) -> dict[str, int]:
    """The files by their paths, and their sizes in bytes."""
    return {
        path: len(content.encode() if isinstance(content, str) else content)
        for path, content in tree.items()
        if isinstance(content, str | bytes)
    }


def fast_directory() -> str | None:
    """Where the many small files of tests go: a directory in memory where there is one, else None, the system's usual
    place."""
    shared = Path("/dev/shm")  # noqa: S108 - the caller makes a private directory in it
    return str(shared) if shared.is_dir() else None


def _make_target(root: Path, target: Path, holding: tuple[str, ...]) -> None:
    place = Path(*target.parts[: len(root.parts)])
    for part in target.parts[len(root.parts) :]:
        place = place.parent if part == ".." else place / part
    if place.is_relative_to(root):
        return
    for path in holding:
        file = place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    if not holding:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
