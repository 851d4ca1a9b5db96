"""Bytes and trees between the model and the disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from perago.embedded.lakefs.blobs import Blob, BlobStore
from perago.embedded.lakefs.tree import ACTIONS_PREFIX
from perago.embedded.lakefs.values import Entry
from perago.ports import CorruptTransfer, Placement, Progress, Upload
from perago.workspace.sending import open_unchanged


def read_upload(blobs: BlobStore, upload: Upload) -> Blob:
    """The bytes of a local file, compared with what change detection saw.

    Raises:
        FileChanging: the file vanished, or has another size.
        CorruptTransfer: the MD5 differs.
        OSError: the file cannot be read.
    """
    with os.fdopen(open_unchanged(upload), "rb") as file:
        blob = blobs.of_open_file(file)
    if (blob.size, blob.checksum) != (upload.size, upload.checksum):
        raise CorruptTransfer(
            "lakeFS",
            f"upload {upload.key!r}",
            f"{upload.path} has {blob.size} bytes with MD5 {blob.checksum}, but {upload.size} bytes with "
            f"MD5 {upload.checksum} were announced: it changed while it was being published",
        )
    return blob


def write_files(
    entries: Mapping[str, Entry], workspace: Path, placements: Iterable[Placement], on_progress: Progress
) -> None:
    """Write the placed objects, of `entries` by key: complete under a temporary name first, then renamed.

    Temporary files lie in a fresh directory beside the workspace, so that none can collide with a workspace name.

    Raises:
        OSError: the disk refused.
    """
    placed = [(entries[place.entry.key], place.path) for place in placements if place.path is not None]
    if not placed:
        return
    workspace.mkdir(parents=True, exist_ok=True)
    parents: set[str] = set()
    size = 0
    with tempfile.TemporaryDirectory(prefix="incoming-", dir=workspace.parent) as incoming:
        partial = f"{incoming}/object"
        for number, (entry, path) in enumerate(placed, start=1):
            target = os.fspath(path)
            parent = os.path.dirname(target)  # noqa: PTH120 - text is measurably faster for thousands of files
            if parent not in parents:
                path.parent.mkdir(parents=True, exist_ok=True)
                parents.add(parent)
            if entry.is_directory_marker:
                path.mkdir(exist_ok=True)
            else:
                _write(entry, partial, target)
            size += entry.blob.size
            on_progress(number, size)


def _write(entry: Entry, partial: str, target: str) -> None:
    with open(partial, "wb") as file:  # noqa: PTH123 - text is faster than paths, as above
        entry.blob.copy_to(file)
    os.utime(partial, (entry.mtime, entry.mtime))
    os.replace(partial, target)  # noqa: PTH105 - as above


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
