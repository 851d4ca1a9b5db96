"""Read the files below a root, never through a symbolic link, at any depth, with few open files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import io
import os
import stat
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perago.authoring.workspace import Listing
from perago.text import listing, quoted
from perago.workspace.keys import is_utf8

if TYPE_CHECKING:
    from perago.ports import Upload

EXHAUSTED = (errno.EMFILE, errno.ENFILE)
"""Error numbers of an `OSError` that is not about the file, but about too many open files. Such an error is passed on
unchanged."""


class WorkspaceError(Exception):
    """The base class of the errors of this package."""


class WorkspaceGone(WorkspaceError):
    """The workspace directory was deleted, replaced, or made inaccessible."""


class UnreadableFile(WorkspaceError):
    """A file or directory of the workspace cannot be read, so its changes are unknown."""


class FileChanging(WorkspaceError):
    """A file changed, vanished, or turned into something else while it was being read."""


class WorkspaceRefused(WorkspaceError):
    """An error that says whether a later attempt can succeed."""

    def __init__(self, message: str, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (str(self), self.retryable))


KEPT_OPEN = 64
"""Maximum number of open directories. A depth-first walk returns to an older one once in this many levels."""

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class Descent:
    """Opens directories one component at a time, relative to the one above.

    So no path is ever too long for the system, and a directory that becomes a symlink in the meantime causes an
    `OSError` instead of leading outside. Walk depth first: the chain of directories that led to the last one stays
    open. One descent belongs to one thread."""

    def __init__(self, root: Path, *, held: int | None = None, root_may_be_symlink: bool = False) -> None:
        """Open `root`, or the directory of the descriptor `held`.

        Raises:
            OSError: it is missing, is not a directory, or is a forbidden symlink.
        """
        flags = DIRECTORY & ~os.O_NOFOLLOW if root_may_be_symlink else DIRECTORY
        self.root: int = os.open(root if held is None else ".", flags, dir_fd=held)
        self._chain: deque[tuple[str, int]] = deque()

    def enter(self, path: str) -> int:
        """Return a descriptor of the directory `path` (`""` is the root), valid until the next call.

        Raises:
            OSError: a component is missing, is not a directory, is a symlink, or cannot be opened.
        """
        chain = self._chain
        while chain and not f"{path}/".startswith(f"{chain[-1][0]}/"):
            os.close(chain.pop()[1])
        above, descriptor = chain[-1] if chain else ("", self.root)
        if path == above:
            return descriptor
        for name in path[len(above) + 1 if above else 0 :].split("/"):
            descriptor = os.open(name, DIRECTORY, dir_fd=descriptor)
            above = f"{above}/{name}" if above else name
            chain.append((above, descriptor))
            if len(chain) > KEPT_OPEN:
                os.close(chain.popleft()[1])
        return descriptor

    def open_file(self, path: str) -> int:
        """Return a descriptor for reading the file `path`. A file that has become a FIFO does not block.

        Raises:
            OSError: a part is missing, is a symlink, is not a directory, or cannot be opened.
        """
        above, name = split(path)
        return os.open(name, _FILE, dir_fd=self.enter(above))

    def close(self) -> None:
        """Close every descriptor."""
        while self._chain:
            os.close(self._chain.pop()[1])
        os.close(self.root)

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_file(root: Path, path: str) -> int:
    """Return a descriptor for reading the file `path` below `root`, as `Descent.open_file`."""
    with Descent(root) as descent:
        return descent.open_file(path)


def split(path: str) -> tuple[str, str]:
    """Return the directory of `path` (`""` for the root) and its last component."""
    above, _, name = path.rpartition("/")
    return above, name


@dataclass(frozen=True, slots=True)
class FileStat:
    """The state of a regular file on disk. Two equal values mean that it was not touched."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileStat:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


class IrregularKind(StrEnum):
    """The kind of an entry of a directory that can never be an object."""

    SYMLINK = "symlink"
    FIFO = "FIFO"
    SOCKET = "socket"
    DEVICE = "device"
    NOT_UTF8 = "name is not UTF-8"


@dataclass(frozen=True, slots=True, order=True)
class Irregular:
    """An entry that can never be an object. A directory with such a name was not read."""

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
        """Return the tree for guardrails."""
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


def check_closed(root: Path) -> None:
    """Check that this process has no file below `root` open for writing, because the end of such a file can still be in
    a buffer. Only Linux shows the open files.

    A connection to SQLite that the function no longer has is open until the garbage collector finds it, so this calls
    the collector. Never if Python's own files are open, because the collector can close them without their buffer.

    A file whose bytes are flushed counts, too: log handlers of the function also get the lines of perago's own
    connections, and an open archive still lacks its end.

    Raises:
        FileChanging: it has.
    """
    left = _open_for_writing(root)
    files = (file for file in gc.get_objects() if type(file) is io.FileIO and not file.closed) if left else ()
    if left and left.keys().isdisjoint(file.fileno() for file in files):
        gc.collect()
        left = _open_for_writing(root)
    if left:
        named = listing([quoted(path) for path in sorted({*left.values()})], 3)
        raise FileChanging(
            f"The function left {named} open for writing, so the last bytes can be missing. Close each file before the "
            "function returns: `with open(...)`, or `logger.removeHandler(handler); handler.close()` for a log file."
        )


def _open_for_writing(root: Path) -> dict[int, str]:
    """Return the files below `root` by their descriptors."""
    top, paths = f"{os.path.realpath(root)}{os.sep}", {}  # `resolve` fails for a loop of links
    with contextlib.suppress(OSError), os.scandir("/proc/self/fd") as descriptors:
        for entry in descriptors:
            with contextlib.suppress(OSError):
                path = os.readlink(entry.path)  # noqa: PTH115 - a descriptor is not always a path
                number = int(entry.name)
                is_written = fcntl.fcntl(number, fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR)
                if is_written and path.startswith(top) and os.fstat(number).st_nlink:
                    paths[number] = path.removeprefix(top)
    return paths


class _Scan:
    """The results of one walk so far, and the directories that are still to be read."""

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
            mode = entry.stat(follow_symlinks=False).st_mode
            self.irregular.append(Irregular(path, _KINDS.get(stat.S_IFMT(mode), IrregularKind.DEVICE)))


_KINDS = {stat.S_IFLNK: IrregularKind.SYMLINK, stat.S_IFIFO: IrregularKind.FIFO, stat.S_IFSOCK: IrregularKind.SOCKET}
"""Kinds by the file type of a mode. All others are devices."""


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


_CHANGES = {
    errno.ENOENT: "vanished",
    errno.ELOOP: "became a symbolic link",
    errno.ENOTDIR: "lost a directory on the way to it, which is a symbolic link or a file now,",
}


def open_unchanged(upload: Upload) -> int:
    """Open a file for reading, if it still has the kind and size that the scan saw. Never follow a link or wait on a
    FIFO.

    Raises:
        FileChanging: the file vanished or changed.
        OSError: too many files are open.
    """
    try:
        handle = open_file(*upload.place)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        what = _CHANGES.get(error.errno or 0) or f"became unreadable ({error.strerror})"
        raise changed_since_scan(upload, what) from error
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode) and status.st_size == upload.size:
        return handle
    os.close(handle)
    is_file = stat.S_ISREG(status.st_mode)
    what = (
        f"changed its size from {upload.size} to {status.st_size} bytes" if is_file else "ceased to be a regular file"
    )
    raise changed_since_scan(upload, what)


def changed_since_scan(upload: Upload, what: str) -> FileChanging:
    """Build the error for a file of which `what` happened since the scan."""
    return FileChanging(
        f"The file {quoted(upload.place[1])} {what} between the scan of the workspace and its upload. The task "
        "function must end every thread and process that writes there before it returns."
    )
