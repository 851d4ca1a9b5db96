"""What the function did to its workspace: the tree after it against the files that were downloaded."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from perago.ports import ObjectEntry, Placement
from perago.workspace.descent import open_file
from perago.workspace.disk import probe_disk
from perago.workspace.errors import EXHAUSTED, FileChanging, UnreadableFile, WorkspaceError
from perago.workspace.keys import is_marker, is_reserved
from perago.workspace.scan import FileStat, Tree, open_workspace
from perago.workspace.text import listing, quoted

_MD5 = re.compile(r"[0-9a-f]{32}")


_REPLACED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
"""What opening a file says that vanished or became something else."""
_THREADS = 4
_WORTH_THREADS = 8 * 1024 * 1024
"""Bytes from which several threads beat one: hashing a large file lets go of the GIL, opening a small one does not."""


@dataclass(frozen=True, slots=True)
class BaselineFile:
    """A downloaded file: what the disk says about it, and the object that it came from."""

    stat: FileStat
    entry: ObjectEntry
    md5: str | None
    """None where the listed checksum is opaque and the bytes were not hashed here."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The workspace as it was downloaded."""

    files: Mapping[str, BaselineFile]
    markers: frozenset[str] = frozenset()
    """Directories that have a marker object, without the slash at its end."""
    stat_tells_changes: bool = True
    """Whether an untouched `FileStat` proves untouched bytes on this disk."""

    @classmethod
    def record(cls, tree: Tree, placements: Iterable[Placement], key_prefix: str) -> Baseline:
        """Remember `tree`, scanned after the download of `placements` and before the function runs.

        On a disk where times prove nothing, objects with an opaque checksum are read once to know their MD5.

        Raises:
            WorkspaceError: a downloaded file is missing or has another size.
        """
        placed: dict[str, ObjectEntry] = {}
        markers = []
        for placement in placements:
            path = placement.entry.key[len(key_prefix) :]
            if placement.path is not None:
                placed[path] = placement.entry
            elif path and is_marker(placement.entry) and not is_reserved(placement.entry.key):
                markers.append(path[:-1])
        _check_complete(tree, placed)
        tells = probe_disk(tree.root).stat_tells_changes
        listed = {path: entry.checksum for path, entry in placed.items() if _MD5.fullmatch(entry.checksum)}
        opaque = {} if tells else {path: tree.files[path] for path in placed if path not in listed}
        sums = {**listed, **hash_files(tree.root, opaque)}
        files = {path: BaselineFile(tree.files[path], entry, sums.get(path)) for path, entry in placed.items()}
        return cls(files, frozenset(markers), tells)


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file to publish or delete. `path` is relative to the workspace, `size` in bytes, `checksum` a hex MD5.

    A rewritten object keeps its content type and user metadata (docs/design/contract.md 7). For a removed file
    everything is as it was listed; the path of a removed directory marker ends in `/`.
    """

    path: str
    size: int
    checksum: str
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_certain: bool = True
    """Whether the new bytes differ from the former ones. False: the MD5 of the former ones is unknown."""


@dataclass(frozen=True, slots=True)
class Changes:
    """The difference between two trees, each part sorted by path. Modes and empty directories are no changes."""

    added: tuple[ChangedFile, ...] = ()
    changed: tuple[ChangedFile, ...] = ()
    removed: tuple[ChangedFile, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def detect_changes(baseline: Baseline, tree: Tree) -> Changes:
    """Compare `tree` with the `baseline`; reads only files that may have changed.

    Size, mtime, ctime and inode as they were mean unchanged. Otherwise the MD5 decides; where the old one is not
    known, the file counts as changed. Irregular entries are the caller's to refuse first: a file replaced by a
    symlink is a removed one here.

    A directory marker `x/` is left alone, unless the function put a file in the place of that directory: then it is
    removed, because a file and a directory at once could never be laid out again.

    Raises:
        UnreadableFile: a file cannot be read, or a directory not looked into.
        FileChanging: something still writes to the workspace.
    """
    if tree.unreadable:
        named = listing([f"{quoted(entry.path)} ({entry.reason})" for entry in tree.unreadable])
        raise UnreadableFile(f"What changed in the workspace cannot be known, because parts are unreadable: {named}.")
    suspects = {}
    for path, status in tree.files.items():
        before = baseline.files.get(path)
        if before is None or not baseline.stat_tells_changes or before.stat != status:
            suspects[path] = status
    sums = hash_files(tree.root, suspects)
    added, changed = [], []
    for path, checksum in sums.items():
        before = baseline.files.get(path)
        size = tree.files[path].size
        if before is None:
            added.append(ChangedFile(path, size, checksum))
        elif size != before.entry.size or checksum != before.md5:
            entry, is_certain = before.entry, size != before.entry.size or before.md5 is not None
            changed.append(ChangedFile(path, size, checksum, entry.content_type, entry.metadata, is_certain))
    return Changes(tuple(added), tuple(changed), tuple(_removed(baseline, tree)))


def _removed(baseline: Baseline, tree: Tree) -> list[ChangedFile]:
    gone = {path: file.entry for path, file in baseline.files.items() if path not in tree.files}
    removed = [
        ChangedFile(path, entry.size, entry.checksum, entry.content_type, entry.metadata)
        for path, entry in gone.items()
    ]
    removed += [ChangedFile(f"{marker}/", 0, "") for marker in baseline.markers if _has_file_above(marker, tree)]
    return sorted(removed, key=lambda file: file.path)


def _has_file_above(directory: str, tree: Tree) -> bool:
    """Whether a file stands where `directory` or one above it was."""
    while directory:
        if directory in tree.files:
            return True
        directory = directory.rpartition("/")[0]
    return False


def _check_complete(tree: Tree, placed: Mapping[str, ObjectEntry]) -> None:
    wrong = [
        quoted(path) for path, entry in placed.items() if path not in tree.files or tree.files[path].size != entry.size
    ]
    if wrong:
        raise WorkspaceError(
            f"The download is incomplete: {listing(wrong)} missing or of another size than listed. Something else "
            "writes to the attempt directory, or the disk lost data."
        )


def hash_files(root: Path, files: Mapping[str, FileStat]) -> dict[str, str]:
    """The hex MD5 of each of `files` below `root`, which must still be what the scan saw.

    lakeFS lists it for what was uploaded through its API. No security rests on it.

    Raises:
        UnreadableFile: the system refused to open or read one.
        FileChanging: one changed, vanished, or is no regular file any more.
        OSError: too many files are open.
        WorkspaceGone: so did the workspace itself.
    """
    if not files:
        return {}
    with open_workspace(root) as descent:
        return _hash_all(descent.root, files)


def _hash_all(directory: int, files: Mapping[str, FileStat]) -> dict[str, str]:
    def digest(path: str) -> str:
        return _hash_file(directory, path, files[path])

    if len(files) == 1 or sum(status.size for status in files.values()) < _WORTH_THREADS:
        return {path: digest(path) for path in files}
    threads = min(_THREADS, len(files), os.cpu_count() or 1)
    left = iter(list(files))  # shared: a future for each of 100,000 files would take more memory than all the rest
    ended = threading.Event()

    def part(_: int) -> dict[str, str]:
        try:
            return {path: digest(path) for path in takewhile(lambda _: not ended.is_set(), left)}
        except BaseException:
            ended.set()
            raise

    with ThreadPoolExecutor(threads, thread_name_prefix="perago-md5") as pool:
        try:
            parts = list(pool.map(part, range(threads)))
        finally:
            ended.set()  # leaving the block waits for all threads, also when the delivery is lost meanwhile
    found = {path: checksum for part in parts for path, checksum in part.items()}
    return {path: found[path] for path in files}


def _hash_file(directory: int, path: str, expected: FileStat) -> str:
    try:
        descriptor = open_file(directory, path)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        raise _changing(path) if error.errno in _REPLACED else _unreadable(path, error) from error
    try:
        _check_unchanged(descriptor, path, expected)
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        _check_unchanged(descriptor, path, expected)
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def _check_unchanged(descriptor: int, path: str, expected: FileStat) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or FileStat.of(status) != expected:
        raise _changing(path)


def _changing(path: str) -> FileChanging:
    return FileChanging(
        f"The file {quoted(path)} changed while the changes of the workspace were being collected. The task function "
        "must end every thread and process that writes there before it returns."
    )


def _unreadable(path: str, error: OSError) -> UnreadableFile:
    return UnreadableFile(
        f"The file {quoted(path)} cannot be read ({error.strerror}), so whether it changed cannot be known. "
        "The task function must leave its files readable."
    )
