"""One pass over a workspace: everything that guardrails, change detection and planning need to know about it."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from perago.authoring.guardrails import Listing
from perago.workspace.descent import Descent
from perago.workspace.errors import EXHAUSTED, WorkspaceGone
from perago.workspace.keys import is_utf8


@dataclass(frozen=True, slots=True)
class FileStat:
    """What the disk says about a regular file. Two equal values mean that it was not touched
    (docs/design/contract.md 7)."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileStat:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class IrregularKind(StrEnum):
    """What can stand in a directory and can never be an object."""

    SYMLINK = "symlink"
    FIFO = "FIFO"
    SOCKET = "socket"
    DEVICE = "device"
    NOT_UTF8 = "name is not UTF-8"


@dataclass(frozen=True, slots=True, order=True)
class Irregular:
    """An entry that can never be an object. A directory among them (by its name) was not looked into."""

    path: str
    kind: IrregularKind


@dataclass(frozen=True, slots=True, order=True)
class Unreadable:
    """A directory, or an entry of one, that the system would not show, with the system's reason."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Tree:
    """The result of one scan. Paths are relative to `root`; everything is sorted by path."""

    root: Path
    files: Mapping[str, FileStat]
    directories: tuple[str, ...] = ()
    irregular: tuple[Irregular, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def listing(self) -> Listing:
        """What guardrails see of it."""
        return Listing({path: file.size for path, file in self.files.items()}, self.directories)


def scan_tree(root: Path, held: int | None = None) -> Tree:
    """Read every entry below `root` once. Follow no symlink and open no file.

    An entry that vanishes during the scan is `Unreadable`, because the scan cannot know whether it was removed on
    purpose or together with the workspace.

    Args:
        root: the path of the directory.
        held: an open descriptor of the directory that `root` must name. As long as it is open, the file system cannot
            give the inode to another directory.

    Raises:
        WorkspaceGone: `root` was deleted, replaced, or made inaccessible, before the scan or during it.
        OSError: too many files are open.
    """
    scan = _Scan()
    with open_workspace(root, held) as descent:
        has_link_counts = os.fstat(descent.root).st_nlink > 0
        while scan.pending:
            directory = scan.pending.pop()
            try:
                descriptor = descent.enter(directory)
                with os.scandir(descriptor) as entries:
                    scan.visit(directory, entries)
                if directory and has_link_counts and not os.fstat(descriptor).st_nlink:
                    raise FileNotFoundError
            except OSError as error:
                if error.errno in EXHAUSTED:
                    raise
                scan.unreadable.append(Unreadable(directory, _reason(error)))
        _check_in_place(root, descent.root)
    return Tree(
        root=root,
        files=dict(sorted(scan.files.items())),
        directories=tuple(sorted(scan.directories)),
        irregular=tuple(sorted(scan.irregular)),
        unreadable=tuple(sorted(scan.unreadable)),
    )


class _Scan:
    """What one walk has found so far, and the directories it still has to look into."""

    def __init__(self) -> None:
        self.pending = [""]
        self.files: dict[str, FileStat] = {}
        self.directories: list[str] = []
        self.irregular: list[Irregular] = []
        self.unreadable: list[Unreadable] = []

    def visit(self, directory: str, entries: Iterable[os.DirEntry[str]]) -> None:
        prefix = f"{directory}/" if directory else ""
        for entry in entries:
            path = prefix + entry.name
            try:
                self._sort(path, entry)
            except OSError as error:
                self.unreadable.append(Unreadable(path, _reason(error)))

    def _sort(self, path: str, entry: os.DirEntry[str]) -> None:
        if not is_utf8(entry.name):
            self.irregular.append(Irregular(path, IrregularKind.NOT_UTF8))
        elif entry.is_file(follow_symlinks=False):
            self.files[path] = FileStat.of(entry.stat(follow_symlinks=False))
        elif entry.is_dir(follow_symlinks=False):
            self.directories.append(path)
            self.pending.append(path)
        else:
            self.irregular.append(Irregular(path, _kind(entry.stat(follow_symlinks=False).st_mode)))


def _kind(mode: int) -> IrregularKind:
    if stat.S_ISLNK(mode):
        return IrregularKind.SYMLINK
    if stat.S_ISFIFO(mode):
        return IrregularKind.FIFO
    if stat.S_ISSOCK(mode):
        return IrregularKind.SOCKET
    return IrregularKind.DEVICE


def open_workspace(root: Path, held: int | None = None) -> Descent:
    """Open a workspace for reading, by its path or by the descriptor `held`.

    Raises:
        WorkspaceGone: as `scan_tree`.
    """
    try:
        return Descent(root, held=held)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        raise _gone(root, error) from error


def _check_in_place(root: Path, descriptor: int) -> None:
    """Fail unless `root` is still the name of the open directory.

    Raises:
        WorkspaceGone: it is not.
    """
    try:
        in_place = os.path.samestat(os.fstat(descriptor), root.lstat())
    except OSError as error:
        raise _gone(root, error) from error
    if not in_place:
        raise _gone(root)


def _gone(root: Path, error: OSError | None = None) -> WorkspaceGone:
    return WorkspaceGone(
        f"The workspace {root} {_what_happened(root, error)}, so perago cannot know which files the task removed. The "
        "task function must keep the directory that it was given. To start with an empty workspace, delete what is in "
        "the directory."
    )


def _what_happened(root: Path, error: OSError | None) -> str:
    if error is not None and error.errno == errno.ENOENT:
        return "was deleted"
    if root.is_symlink():
        return "was replaced by a symlink"
    if error is None and root.is_dir():
        return "was replaced by another directory"
    if error is None or error.errno == errno.ENOTDIR:
        return "was replaced by something that is not a directory"
    return f"cannot be opened ({_reason(error)})"


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "it vanished during the scan"
    return error.strerror or type(error).__name__
