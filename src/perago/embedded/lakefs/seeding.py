"""Trees in and out of the model, for tests and demonstrations."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from perago.embedded.lakefs.tree import ACTIONS_PREFIX
from perago.embedded.lakefs.values import Entry


def files_of(tree: Mapping[str, str | bytes | Path | None] | Path) -> Iterator[tuple[str, bytes | Path]]:
    """(key, bytes or file) of a mapping or of a directory, in order. Directories and None have no object."""
    if isinstance(tree, Path):
        if not tree.is_dir():
            raise NotADirectoryError(f"{tree} is not a directory: there is no tree to take from it")
        for path in sorted(tree.rglob("*")):
            if path.is_file():
                yield path.relative_to(tree).as_posix(), path
        return
    for key, content in tree.items():
        if content is not None:
            yield key, content.encode() if isinstance(content, str) else content


def export_tree(entries: Iterable[Entry], target: Path, prefix: str = "") -> None:
    """Write the objects whose keys begin with `prefix`, but no hooks, below `target`, which is made.

    Raises:
        ValueError: a key would land outside of `target`, or is no file name.
    """
    target.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        is_wanted = entry.path.startswith(prefix) and entry.path != prefix
        if not is_wanted or entry.path.startswith(ACTIONS_PREFIX):
            continue
        key = entry.path[len(prefix) :]
        if entry.is_directory_marker:
            (target / _safe(key.rstrip("/"))).mkdir(parents=True, exist_ok=True)
            continue
        path = target / _safe(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            entry.blob.copy_to(file)
        os.utime(path, (entry.mtime, entry.mtime))


def _safe(key: str) -> str:
    parts = key.split("/")
    if "\x00" in key or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"key {key!r} cannot become a file: it has an empty, '.' or '..' part, or a NUL")
    return key
