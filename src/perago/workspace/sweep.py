"""Mark attempt directories with their owner, and remove those whose owner has ended.

The lock is `flock` on the marker. A process id would mean nothing across containers. The system releases the lock when
the last descriptor is closed, even if the owner is killed. The descriptor is closed on `exec`. A child that the task
function forks and leaves behind keeps the lock, because it can still write to the workspace.

The directories contain files of an author's code, which can be read-only, deep, oddly named, or links to other places.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perago.text import listing, quoted
from perago.workspace.scan import Descent, split

MARKER = ".perago-attempt.json"
UNFINISHED = ".perago-new-"
"""The prefix of markers that are not in place yet. They are in the root, so an attempt directory without a marker is
empty, and any process can remove it."""

_LARGEST = 64 * 1024
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK


def place_marker(root: int, directory: int, fields: Mapping[str, Any], place: str = MARKER) -> int:
    """Put a marker into `directory` that is locked from the moment that it is visible. Return its descriptor.

    `root` and `directory` are descriptors of directories, `place` is the marker's name.

    Raises:
        FileExistsError: the directory has a marker.
        FileNotFoundError: another process removed the directory or swept the unfinished marker: call this again.
        OSError: the disk refused, or has no locks.
    """
    name = UNFINISHED + secrets.token_hex(8)
    marker = os.open(name, _OPEN | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=root)
    try:
        try:
            if not hold(marker):
                raise FileNotFoundError(errno.ENOENT, "swept before it was locked", name)
            write_fields(marker, fields)
            os.link(name, place, src_dir_fd=root, dst_dir_fd=directory, follow_symlinks=False)
        finally:
            unlink_if_there(name, root)
    except BaseException:
        os.close(marker)
        raise
    return marker


def claim_marker(directory: int, name: str = MARKER) -> int | None:
    """Hold the marker of a dead owner. Return None if a process holds or removes it.

    Raises:
        FileNotFoundError: there is no marker.
        OSError: it is not a file that can be opened.
    """
    marker = os.open(name, _OPEN, dir_fd=directory)
    claimed = False
    try:
        claimed = stat.S_ISREG(os.fstat(marker).st_mode) and hold(marker) and _is_still(marker, name, directory)
    finally:
        if not claimed:
            os.close(marker)
    return marker if claimed else None


def hold(marker: int) -> bool:
    """Take the lock of an open marker without waiting; False if another process has it.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise OSError(error.errno, f"the disk of the workspace root cannot lock files ({error.strerror})") from error
    return True


def write_fields(marker: int, fields: Mapping[str, Any]) -> None:
    """Replace the contents of an open marker in place, because the lock is on this very file.

    The text never gets shorter, so one write replaces it completely, also if the writer is killed.

    """
    text = json.dumps(fields).encode() + b"\n"
    os.pwrite(marker, text.ljust(os.fstat(marker).st_size), 0)


def held_fields(directory: int, name: str = MARKER) -> dict[str, Any] | None:
    """Return the text of the marker of a living owner. Return None for a dead owner's marker, and for a missing or
    malformed one."""
    try:
        marker = os.open(name, _OPEN, dir_fd=directory)
    except OSError:
        return None
    try:
        return None if hold(marker) else read_fields(marker)
    except OSError:
        return None
    finally:
        os.close(marker)


def read_fields(marker: int) -> dict[str, Any] | None:
    """Return the contents of an open marker, or None if they are malformed."""
    try:
        fields = json.loads(os.pread(marker, _LARGEST, 0))
    except (OSError, ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def unlink_if_there(name: str, directory: int) -> None:
    """Delete `name` from an open directory, if it exists."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _is_still(marker: int, name: str, directory: int) -> bool:
    """Whether the open marker still has its name. It may have been removed before it was locked."""
    try:
        return os.path.samestat(os.fstat(marker), os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return False


CACHE = ".cache"
"""The directory in the root that does not belong to a workflow: `perago.cache` keeps objects there."""
_DIRECTORY_NAME = re.compile(r".{1,8}-[0-9a-f]{15}")


def remove_attempt(descent: Descent, directory: str) -> str | None:
    """Remove an attempt directory whose marker the caller holds.

    The marker is removed last, so a process that finds a partial removal can finish it. Return the problem, or None.
    """
    problems = _empty(descent, directory, keep=MARKER)
    if not problems:
        try:
            unlink_if_there(MARKER, descent.enter(directory))
        except OSError as error:
            _note(problems, directory, error)
    if problems:
        return f"could not remove {listing(problems, 3)}"
    _remove_empty(descent, directory)
    return None


def _remove_empty(descent: Descent, directory: str) -> None:
    """Remove a directory in the root. The system refuses to remove one that is not empty."""
    with contextlib.suppress(OSError):
        os.rmdir(directory, dir_fd=descent.enter(""))


def _empty(descent: Descent, directory: str, *, keep: str) -> list[str]:
    """Delete everything in `directory` except the file named `keep`. Return the problems as texts.

    Symlinks are deleted, never followed. Directories without write permission get it first. Missing entries are fine,
    and one failure does not stop the others.
    """
    problems: list[str] = []
    pending = [(directory, False)]
    while pending:
        path, emptied = pending.pop()
        try:
            if emptied:
                above, name = split(path)
                os.rmdir(name, dir_fd=descent.enter(above))
                continue
            children = _delete_files(_open_writable(descent, path), path, keep if path == directory else "", problems)
            if path != directory:
                pending.append((path, True))
            pending += [(f"{path}/{name}", False) for name in children]
        except OSError as error:
            _note(problems, path, error)
    return problems


def _open_writable(descent: Descent, directory: str) -> int:
    try:
        descriptor = descent.enter(directory)
    except PermissionError:
        above, name = split(directory)
        parent = descent.enter(above)
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise
        os.chmod(name, stat.S_IRWXU, dir_fd=parent)
        descriptor = descent.enter(directory)
    if os.fstat(descriptor).st_mode & stat.S_IRWXU != stat.S_IRWXU:
        os.fchmod(descriptor, stat.S_IRWXU)
    return descriptor


def _delete_files(descriptor: int, directory: str, keep: str, problems: list[str]) -> list[str]:
    """Delete files and empty directories. Return the names of the other directories."""
    children = []
    with os.scandir(descriptor) as opened:
        entries = list(opened)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            try:
                os.rmdir(entry.name, dir_fd=descriptor)
            except OSError:  # not empty, or in the way of something that is mended further down
                children.append(entry.name)
        elif entry.name != keep:
            try:
                os.unlink(entry.name, dir_fd=descriptor)
            except OSError as error:
                _note(problems, f"{directory}/{entry.name}", error)
    return children


def _note(problems: list[str], path: str, error: OSError) -> None:
    """Record a failure, unless it follows from an earlier one or the file no longer exists."""
    if error.errno == errno.ENOENT or (error.errno == errno.ENOTEMPTY and problems):
        return
    problems.append(f"{quoted(path)}: {error.strerror}")


@dataclass(frozen=True, slots=True)
class DeadDirectory:
    """An attempt directory whose marker no process holds."""

    path: Path
    size: int
    """Bytes of its files."""
    began: float
    """The start of its attempt, in seconds since the epoch."""


def dead_directories(root: Path) -> Iterator[DeadDirectory]:
    """Yield the directories that a sweep would remove now, with their sizes. This changes nothing, and skips unreadable
    ones."""
    try:
        descent = Descent(root, root_may_be_symlink=True)
    except OSError:
        return
    with descent:
        for path in sorted(_attempts(descent)):
            with _claimed(descent, path) as marker:
                began = None if marker is None else os.fstat(marker).st_mtime
                size = 0 if began is None else _size(descent, path)
            if began is not None:
                yield DeadDirectory(root / path, size, began)


def living_attempts(root: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the markers of running attempts below a root. This changes nothing."""
    with contextlib.suppress(OSError), Descent(root, root_may_be_symlink=True) as descent:
        for path in sorted(_attempts(descent)):
            with contextlib.suppress(OSError):
                if (fields := held_fields(descent.enter(path))) is not None:
                    yield fields


def dead_attempts(root: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the markers of attempts below a root whose process has ended. This changes nothing."""
    with contextlib.suppress(OSError), Descent(root, root_may_be_symlink=True) as descent:
        for path in sorted(_attempts(descent)):
            with _claimed(descent, path) as marker:
                if marker is not None and (fields := read_fields(marker)) is not None:
                    yield fields


def remove_dead(root: Path, directory: Path) -> str | None:
    """Remove an attempt directory of `root` if no process holds its marker. Return the reason if that failed.

    A directory that no longer exists is fine.
    """
    path = directory.relative_to(root).as_posix()
    try:
        with Descent(root, root_may_be_symlink=True) as descent, _claimed(descent, path) as marker:
            if marker is not None:
                return remove_attempt(descent, path)
        return "a process holds its marker by now, or has taken the right to open it" if directory.exists() else None
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"{directory}: {error.strerror}"


def sweep(root: Path) -> tuple[Path, ...]:
    """Remove every attempt directory whose marker no process holds. Return the removed ones.

    Other files in the root stay, and so do directories that cannot be removed. Any number of sweeps and attempts can
    run at the same time. A missing root counts as empty.
    """
    try:
        descent = Descent(root, root_may_be_symlink=True)
    except OSError:
        return ()
    with descent:
        swept = tuple(root / path for path in _attempts(descent) if _sweep_attempt(descent, path))
        for name in _names(descent, directories=False):
            if name.startswith(UNFINISHED):
                _sweep_unfinished(descent.root, name)
        return swept


def _attempts(descent: Descent) -> list[str]:
    """Return the directories in the root that have the name of an attempt directory."""
    return [name for name in _names(descent, directories=True) if _DIRECTORY_NAME.fullmatch(name)]


def _names(descent: Descent, *, directories: bool) -> list[str]:
    """Return the entries of the root that are directories, or that are not; none if it cannot be read."""
    try:
        with os.scandir(descent.enter("")) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False) == directories]
    except OSError:
        return []


def _sweep_attempt(descent: Descent, path: str) -> bool:
    with _claimed(descent, path) as marker:
        if marker is not None:
            return remove_attempt(descent, path) is None
    _remove_empty(descent, path)  # one without a marker is empty
    return False


@contextlib.contextmanager
def _claimed(descent: Descent, path: str) -> Iterator[int | None]:
    """Hold the marker of an attempt directory in the block; None if it has a living owner, or no marker that opens."""
    try:
        marker = claim_marker(descent.enter(path))
    except OSError:
        marker = None
    try:
        yield marker
    finally:
        if marker is not None:
            os.close(marker)


def _size(descent: Descent, directory: str) -> int:
    """Return the bytes of the files below `directory`, as far as they can be seen; no link is followed."""
    total, pending = 0, [directory]
    while pending:
        path = pending.pop()
        with contextlib.suppress(OSError), os.scandir(descent.enter(path)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{path}/{entry.name}")
                elif entry.is_file(follow_symlinks=False):
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def _sweep_unfinished(root: int, name: str) -> None:
    """Remove a marker whose creator died before it was in place. A living creator that is about to lock it starts
    again."""
    try:
        marker = claim_marker(root, name)
    except OSError:
        return
    if marker is not None:
        unlink_if_there(name, root)
        os.close(marker)
