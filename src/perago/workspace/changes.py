"""The changes of a task function to its workspace, and their conflicts with the changes of others.

Two sets of changes since one commit conflict if they change the same path, if one has a file where the other has a
directory, or if a disk can treat two names as the same. A path with the same content on both sides is not a conflict.
For two files of the same size, only the checksums decide. A diff does not have them, so such paths stay undecided here.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from perago.text import listing, quoted
from perago.workspace.keys import Folding, compile_glob, directories_above, is_marker, is_reserved
from perago.workspace.layout import probe_disk
from perago.workspace.scan import (
    EXHAUSTED,
    Descent,
    FileChanging,
    FileStat,
    Tree,
    UnreadableFile,
    WorkspaceError,
    open_workspace,
)

if TYPE_CHECKING:
    from perago.ports import ObjectEntry, Placement

_MD5 = re.compile(r"[0-9a-f]{32}")


_REPLACED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
"""Error numbers of opening a file that vanished or became something else."""
_THREADS = 4
_BLOCK_BYTES = 256 * 1024
_THREADED_BYTES = 8 * 1024 * 1024
"""The size in bytes from which several threads are faster than one, because hashing a large file releases the GIL."""


@dataclass(frozen=True, slots=True)
class BaselineFile:
    """A downloaded file: its state on disk, and its object."""

    stat: FileStat | None
    """None if a file with the same state can have other bytes, so that its bytes must be compared."""
    entry: ObjectEntry
    md5: str | None
    """None if the listed checksum is opaque and the bytes were not hashed here."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The workspace as it was downloaded."""

    files: Mapping[str, BaselineFile]
    markers: frozenset[str] = frozenset()
    """Directories that have a marker object, without the slash at its end."""

    @classmethod
    def record(cls, tree: Tree, placements: Iterable[Placement], key_prefix: str) -> Baseline:
        """Record `tree`, which was scanned after the download of `placements` and before the function runs.

        The state of a file proves nothing on a disk with unreliable times. Neither does it if the disk's clock has not
        advanced since the download, because a change in the same tick can get the same times. Such files with an opaque
        checksum are read once for their MD5.

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
        tick = _current_tick(tree.root) if probe_disk(tree.root).stat_shows_changes else 0
        proofs = {path: tree.files[path] if tree.files[path].ctime_ns < tick else None for path in placed}
        listed = {path: entry.checksum for path, entry in placed.items() if _MD5.fullmatch(entry.checksum)}
        opaque = {path: tree.files[path] for path, proof in proofs.items() if proof is None and path not in listed}
        sums = {**listed, **hash_files(tree.root, opaque)}
        files = {path: BaselineFile(proofs[path], entry, sums.get(path)) for path, entry in placed.items()}
        return cls(files, frozenset(markers))


def _current_tick(directory: Path) -> int:
    """Return the time that the disk gives to a change now, in nanoseconds. It can advance by milliseconds, or by a
    second."""
    os.utime(directory)
    return directory.stat().st_ctime_ns


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file to publish or delete. `path` is relative to the workspace, `size` in bytes, `checksum` a hex MD5.

    A rewritten object keeps its content type and user metadata. A removed file has the values of the listing; the path
    of a removed directory marker ends in `/`.
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
    """The difference between two trees, each part sorted by path. Modes and empty directories do not count."""

    added: tuple[ChangedFile, ...] = ()
    changed: tuple[ChangedFile, ...] = ()
    removed: tuple[ChangedFile, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def detect_changes(baseline: Baseline, tree: Tree) -> Changes:
    """Compare `tree` with the `baseline`. Read only files that may have changed.

    A file with the same size, mtime, ctime and inode is unchanged if the baseline says that they prove it. For other
    files the MD5 decides. If the old MD5 is unknown, the file counts as changed. The caller must refuse irregular
    entries first, because a file that was replaced by a symlink counts as removed here.

    A directory marker `x/` stays, unless the function replaced that directory with a file. Then the marker is removed,
    because a disk cannot hold a file and a directory of the same name.

    Raises:
        UnreadableFile: a file or directory cannot be read.
        FileChanging: a process still writes to the workspace.
    """
    if tree.unreadable:
        named = listing([f"{quoted(entry.path)} ({entry.reason})" for entry in tree.unreadable])
        raise UnreadableFile(f"The changes of the workspace are unknown, because parts are unreadable: {named}.")
    suspects = {}
    for path, status in tree.files.items():
        before = baseline.files.get(path)
        if before is None or before.stat != status:
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
    deleted = {path: file.entry for path, file in baseline.files.items() if path not in tree.files}
    removed = [
        ChangedFile(path, entry.size, entry.checksum, entry.content_type, entry.metadata)
        for path, entry in deleted.items()
    ]
    markers = [f"{marker}/" for marker in baseline.markers]
    replaced = [marker for marker in markers if any(above in tree.files for above in directories_above(marker))]
    removed += [ChangedFile(marker, 0, "") for marker in replaced]
    return sorted(removed, key=lambda file: file.path)


def _check_complete(tree: Tree, placed: Mapping[str, ObjectEntry]) -> None:
    wrong = [
        quoted(path) for path, entry in placed.items() if path not in tree.files or tree.files[path].size != entry.size
    ]
    if wrong:
        raise WorkspaceError(
            f"The download is incomplete: {listing(wrong)} missing or of another size than listed. Another process "
            "writes to the attempt directory, or the disk lost data."
        )


def hash_files(root: Path, files: Mapping[str, FileStat]) -> dict[str, str]:
    """Return the hex MD5 of each of `files` below `root`, which must not have changed since the scan.

    lakeFS lists it for objects that were uploaded through its API. It is not used for security.

    Raises:
        UnreadableFile: the system refused to open or read one.
        FileChanging: a file changed, vanished, or is no longer a regular file.
        OSError: too many files are open.
        WorkspaceGone: the workspace itself vanished.
    """
    if not files:
        return {}
    with open_workspace(root) as descent:
        if len(files) == 1 or sum(status.size for status in files.values()) < _THREADED_BYTES:
            return {path: _hash_file(descent, path, status) for path, status in files.items()}
        return _hash_in_threads(descent, files)


def _hash_in_threads(workspace: Descent, files: Mapping[str, FileStat]) -> dict[str, str]:
    threads = min(_THREADS, len(files), os.cpu_count() or 1)
    left = iter(list(files))  # shared: a future for each of 100,000 files would take more memory than all the rest
    ended = threading.Event()

    def part(_: int) -> dict[str, str]:
        try:
            with Descent(Path(), held=workspace.root) as descent:
                paths = takewhile(lambda _: not ended.is_set(), left)
                return {path: _hash_file(descent, path, files[path]) for path in paths}
        except BaseException:
            ended.set()
            raise

    with ThreadPoolExecutor(threads, thread_name_prefix="perago-md5") as pool:
        try:
            parts = list(pool.map(part, range(threads)))
        finally:
            ended.set()  # leaving the block waits for all threads, even if the delivery is lost
    checksums = {path: checksum for part in parts for path, checksum in part.items()}
    return {path: checksums[path] for path in files}


def _hash_file(workspace: Descent, path: str, expected: FileStat) -> str:
    try:
        descriptor = workspace.open_file(path)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        raise _changing(path) if error.errno in _REPLACED else _unreadable(path, error) from error
    try:
        _check_unchanged(descriptor, path, expected)
        digest = hashlib.md5(usedforsecurity=False)
        while part := os.read(descriptor, _BLOCK_BYTES):  # for a small file in half the time of hashlib.file_digest
            digest.update(part)
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
        f"The file {quoted(path)} cannot be read ({error.strerror}), so it is unknown whether it changed. "
        "The task function must leave its files readable."
    )


_ANY_DISK = Folding(case=True, unicode_form=True)
"""The folding for conflicts, because the next task can run on a disk that folds names."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """The places where the changes of others, by key, conflict with the task's own."""

    conflicts: Mapping[str, str]
    """The keys of others that are in conflict, each with the reason."""
    shared: frozenset[str]
    """Keys that both have removed."""
    undecided: frozenset[str]
    """Keys that both have written with the same size. They conflict unless the bytes are the same."""


def find_overlap(
    put: Mapping[str, int],
    removed: Collection[str],
    others: Mapping[str, int | None],
    *,
    reads: Sequence[str] = (),
    key_prefix: str = "",
    names: Collection[str] = (),
) -> Overlap:
    """Compare the task's changes with those of others since the same commit.

    Args:
        put: the written keys of the task, with sizes in bytes.
        removed: the keys that the task has removed.
        others: the keys that others have changed, with their current sizes; None: removed.
        reads: globs relative to `key_prefix`. A key of others that matches one is a conflict, even if both sides have
            done the same to it.
        key_prefix: the prefix of the keys of the task.
        names: all files and directories that the task left, as keys. Two similar names that are both in the task's own
            tree are not a conflict.
    """
    conflicts: dict[str, str] = {}
    shared, undecided = set(), set()
    for key, size in others.items():
        if key in put:
            if size is None:
                conflicts[key] = "was removed there, and written by this attempt"
            elif size != put[key]:
                conflicts[key] = "was changed on both sides"
            else:
                undecided.add(key)
        elif key in removed:
            if size is None:
                shared.add(key)
            else:
                conflicts[key] = "was changed there, and removed by this attempt"
    written = [key for key, size in others.items() if size is not None and key not in put]
    for key, problem in _meeting_names(list(put), written, set(names)):
        conflicts.setdefault(key, problem)
    patterns = [compile_glob(pattern) for pattern in reads]
    for key in others if patterns else ():
        path = key.removeprefix(key_prefix)
        if not key.startswith(key_prefix) or not any(pattern.fullmatch(path) for pattern in patterns):
            continue
        done = "removed" if others[key] is None else "changed"
        conflicts.setdefault(key, f"was read by this task (`reads`), and {done} there")
    return Overlap(conflicts, frozenset(shared), frozenset(undecided))


def _meeting_names(put: Sequence[str], written: Sequence[str], names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the keys of `written` that cannot exist next to `put` on every disk."""
    files = {_ANY_DISK.fold(key): key for key in put}
    directories = {_ANY_DISK.fold(above): above for key in put for above in directories_above(key)}
    for key in written:
        folded = _ANY_DISK.fold(key)
        if folded in directories:
            yield key, f"is a file there, and a directory of this attempt ({directories[folded]!r})"
        elif folded in files and key not in names:
            yield key, f"differs from {files[folded]!r} of this attempt only in case or Unicode form"
        else:
            yield from ((key, problem) for problem in _meeting_directories(key, files, directories, names))


def _meeting_directories(
    key: str, files: Mapping[str, str], directories: Mapping[str, str], names: Collection[str]
) -> Iterator[str]:
    for above in directories_above(key):
        folded = _ANY_DISK.fold(above)
        if folded in files:
            yield f"needs a directory where this attempt has the file {files[folded]!r}"
        elif directories.get(folded, above) != above and above not in names:
            yield f"lies in {above!r}, which differs from {directories[folded]!r} of this attempt only in its spelling"


def combined(
    own: Mapping[str, int], others: Mapping[str, int | None], planned: Collection[str], key_prefix: str
) -> dict[str, int]:
    """Return the files of the workspace with both changes: paths with sizes in bytes.

    `own` are the paths that the task left, `planned` the keys that it changes itself.
    """
    sizes = dict(own)
    for key, size in others.items():
        path = key[len(key_prefix) :]
        if key in planned or not key.startswith(key_prefix) or not path or path.endswith("/"):
            continue
        if size is None:
            sizes.pop(path, None)
        else:
            sizes[path] = size
    return sizes
