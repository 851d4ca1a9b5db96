"""Trees of files: read from a mapping, a directory or a zip, and written to disk."""

from __future__ import annotations

import os
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from perago.workspace.keys import MAX_KEY_BYTES, Folding, find_collisions, is_utf8


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symlink with this target, relative to its own directory. A target outside of the tree is created, too: a
    directory with these files, or a file if `holding` is empty."""

    target: str
    holding: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Symlink({self.target!r}{f', {self.holding!r}' if self.holding else ''})"


Tree: TypeAlias = Mapping[str, str | bytes | Symlink | None]
"""Relative paths with `/`, and their contents; None is a directory."""


@contextmanager
def build(tree: Tree) -> Iterator[Path]:
    """Create the tree on disk until the end of the `with` block, in memory if the system allows it."""
    with tempfile.TemporaryDirectory(prefix="perago-tree-", dir=fast_directory()) as scratch:
        root = Path(scratch, "workspace")
        root.mkdir()
        write_tree(root, tree)
        yield root


def write_tree(root: Path, tree: Tree) -> None:
    """Write the tree into a directory."""
    created = {root}
    for path, content in tree.items():
        place = root / path
        parent = place if content is None else place.parent
        if parent not in created:
            parent.mkdir(parents=True, exist_ok=True)
            created.add(parent)
        if isinstance(content, Symlink):
            place.symlink_to(content.target)
            _make_target(root, place.parent / content.target, content.holding)
        elif content is not None:
            place.write_bytes(as_bytes(content))


def sizes_of(tree: Tree) -> dict[str, int]:
    """The files by their paths, and their sizes in bytes."""
    return {path: len(as_bytes(content)) for path, content in tree.items() if isinstance(content, str | bytes)}


def as_bytes(content: str | bytes) -> bytes:
    """Return the bytes of a file; a text is UTF-8."""
    return content.encode() if isinstance(content, str) else content


def fast_directory() -> str | None:
    """Return the directory for the many small files of tests: one in memory if it exists, otherwise None for the
    system's default."""
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


FileSource: TypeAlias = Tree | str | os.PathLike[str]
"""A mapping, or the path of a directory or of a zip."""

MAX_ZIP_BYTES = 256 * 1024 * 1024
"""The limit of the unpacked bytes of a zip."""


class BadTree(ValueError):
    """No tree can be made of a source; the message names the source, the entry and the reason."""


def read_sources(sources: Iterable[FileSource]) -> dict[str, str | bytes | Symlink | None]:
    """Return one tree of all sources. Later sources override earlier ones.

    Raises:
        BadTree, TypeError: as `perago.testing.tree_of`.
    """
    tree: dict[str, str | bytes | Symlink | None] = {}
    for source in sources:
        tree.update(_read(source))
    files = [path for path, content in tree.items() if content is not None]
    for collision in find_collisions(files, Folding()):
        raise BadTree(f"{collision.key!r}: {collision.problem}")
    return tree


def _read(source: FileSource) -> Mapping[str, str | bytes | Symlink | None]:
    if isinstance(source, Mapping):
        contents: Mapping[str, object] = source
        for name, content in contents.items():
            if problem := _name_problem(name):
                raise BadTree(f"tree: {name!r}: {problem}")
            if not isinstance(content, str | bytes | bytearray | os.PathLike | Symlink | None):
                kind = type(content).__name__
                raise BadTree(f"tree: {name!r}: the content must be text, bytes, a Symlink or None, not {kind}")
        return source
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.is_dir():
            return dict(_read_directory(path))
        if path.is_file():
            return _read_zip(path)
        raise BadTree(f"{path} is neither a directory nor a zip")
    raise TypeError(f"a tree is a mapping, a path or a task function, not {type(source).__name__}")


def _read_directory(root: Path) -> Iterator[tuple[str, bytes | None]]:
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise BadTree(
                f"{root}: {name!r} is a link or not a regular file, and a workspace contains only regular files"
            )
        if path.is_file():
            yield name, path.read_bytes()
        elif not any(path.iterdir()):
            yield name, None


def _read_zip(path: Path) -> dict[str, str | bytes | Symlink | None]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_zip(path, entries)
            return {entry.filename.rstrip("/"): None if entry.is_dir() else archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise BadTree(f"{path} cannot be read as a zip: {error}") from None


def _check_zip(path: Path, entries: Iterable[zipfile.ZipInfo]) -> None:
    """Refuse the complete archive, because one hostile name means that no other name can be trusted."""
    total, names = 0, set()
    for entry in entries:
        name, mode = entry.orig_filename, entry.external_attr >> 16
        problem = _name_problem(name.removesuffix("/")) or _foreign_problem(name)
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            problem = "it is a link or not a regular file"
        if entry.flag_bits & 0x1:
            problem = "it is encrypted"
        if name in names:
            problem = "it occurs twice"
        if problem is not None:
            raise BadTree(f"{path}: {name!r}: {problem}")
        names.add(name)
        total += entry.file_size
    if total > MAX_ZIP_BYTES:
        raise BadTree(f"{path} holds {total:,} bytes, but at most {MAX_ZIP_BYTES:,} are unpacked")


def _name_problem(name: str) -> str | None:
    """Return the reason why no file can have this path, or no object this key."""
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "the path must be relative, without empty parts, '.' and '..'"
    if "\0" in name or not is_utf8(name):
        return "no file can have this name"
    if len(name.encode()) > MAX_KEY_BYTES:
        return f"lakeFS takes at most {MAX_KEY_BYTES:,} bytes"
    return None


def _foreign_problem(name: str) -> str | None:
    """Names that other systems interpret differently than the check does."""
    if "\\" in name or name[1:2] == ":":
        return "backslashes and drives mean other places on other systems"
    return None if name.isprintable() else "it has control characters"
