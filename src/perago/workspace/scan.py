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


def scan_tree(root: Path) -> Tree:
    """Look at every entry below `root` once; follows no symlink and opens no file.

    Entries that vanish meanwhile are left out, as if the scan had come later.

    Raises:
        WorkspaceGone: `root` was deleted, replaced by something else, or made inaccessible.
        OSError: too many files are open.
    """
    scan = _Scan()
    with open_workspace(root) as descent:
        while scan.pending:
            directory = scan.pending.pop()
            try:
                descriptor = descent.enter(directory)
                with os.scandir(descriptor) as entries:
                    scan.visit(directory, entries)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno in EXHAUSTED:
                    raise
                scan.unreadable.append(Unreadable(directory, _reason(error)))
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
            except FileNotFoundError:
                continue
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


def open_workspace(root: Path) -> Descent:
    """Open a workspace for looking into it.

    Raises:
        WorkspaceGone: as `scan_tree`.
    """
    try:
        return Descent(root)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        raise WorkspaceGone(
            f"The workspace {root} {_what_happened(root, error)}. The task function must leave the directory "
            "that it was given in place; to start afresh, delete what is in it."
        ) from error


def _what_happened(root: Path, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "was deleted"
    if root.is_symlink():
        return "was replaced by a symlink"
    if error.errno == errno.ENOTDIR:
        return "was replaced by something that is no directory"
    return f"cannot be opened ({_reason(error)})"


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
