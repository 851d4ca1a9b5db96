"""Removing attempt directories: the own one at the end, and those of processes that died.

An author's code has written them: read-only, deep, oddly named, linked elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perago.workspace.descent import Descent, split
from perago.workspace.marker import MARKER, UNFINISHED, claim_marker, held_fields, unlink_if_there
from perago.workspace.text import listing, quoted

CACHE = ".cache"
"""The directory in the root that is no workflow's: `perago.cache` keeps objects there."""
_LEVELS_ABOVE = 3
_LEAF = re.compile(r"retry=-?\d+,poll=-?\d+,start=-?\d+")


def temporary_link(directory: str) -> str:
    """The name of the link in the root that leads to the temporary directory of the attempt in `directory`."""
    return f".perago-tmp-{hashlib.sha256(directory.encode()).hexdigest()[:16]}"


def remove_attempt(descent: Descent, directory: str) -> str | None:
    """Remove an attempt directory whose marker the caller holds, its link, and those above it that are empty then.

    The marker goes last, so the process that finds the work half done can finish it. Returns what went wrong, or None.
    """
    problems = _empty(descent, directory, keep=MARKER)
    if not problems:
        try:
            unlink_if_there(temporary_link(directory), descent.root)
            unlink_if_there(MARKER, descent.enter(directory))
        except OSError as error:
            _note(problems, directory, error)
    if problems:
        return f"could not remove {listing(problems, 3)}"
    remove_empty(descent, directory)
    return None


def remove_empty(descent: Descent, directory: str) -> None:
    """Remove `directory` and then those above it, up to the first that is not empty.

    Safe beside others who create and remove there: the system refuses to remove what is not empty.
    """
    while directory:
        above, name = split(directory)
        try:
            os.rmdir(name, dir_fd=descent.enter(above))
        except FileNotFoundError:
            pass
        except OSError:
            return
        directory = above


def _empty(descent: Descent, directory: str, *, keep: str) -> list[str]:
    """Delete everything in `directory` but the file named `keep`; returns what went wrong, as texts.

    Symlinks are deleted, never followed. Directories without write permission get it first. What is already gone is
    fine, and one failure does not stop the rest.
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
    """Delete what is no directory, and directories that are empty; returns the names of the others."""
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
    """A directory that is not empty follows from an earlier failure; something that is gone is none."""
    if error.errno == errno.ENOENT or (error.errno == errno.ENOTEMPTY and problems):
        return
    problems.append(f"{quoted(path)}: {error.strerror}")


@dataclass(frozen=True, slots=True)
class DeadDirectory:
    """An attempt directory whose marker no process holds."""

    path: Path
    size: int
    """Bytes of the files in it."""
    began: float
    """When its attempt began, in seconds since the epoch."""


def dead_directories(root: Path) -> Iterator[DeadDirectory]:
    """What a sweep would remove now, measured. Changes nothing; what cannot be looked at is left out."""
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
    """What the markers say of the attempts that are at work below a root. Changes nothing."""
    with contextlib.suppress(OSError), Descent(root, root_may_be_symlink=True) as descent:
        for path in sorted(_attempts(descent)):
            with contextlib.suppress(OSError):
                if (fields := held_fields(descent.enter(path))) is not None:
                    yield fields


def remove_dead(root: Path, directory: Path) -> str | None:
    """Remove an attempt directory of `root` if its marker is still held by no process; returns what stood in the way.

    One that is gone already is fine.
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
    """Remove every attempt directory whose marker no process holds; returns those.

    Whatever else lies in the root stays, and so does what cannot be removed. Any number of sweeps, and attempts that
    begin or end, may go on at the same time. A missing root is an empty one.
    """
    try:
        descent = Descent(root, root_may_be_symlink=True)
    except OSError:
        return ()
    with descent:
        for name in _names(descent, "", directories=False):
            if name.startswith(UNFINISHED):
                _sweep_unfinished(descent.root, name)
        return tuple(root / path for path in list(_attempts(descent)) if _sweep_attempt(descent, path))


def _attempts(descent: Descent) -> Iterator[str]:
    """Paths that have the depth and the name of an attempt directory."""
    pending = [("", 0)]
    while pending:
        path, level = pending.pop()
        for name in _names(descent, path, directories=True):
            if not path and name == CACHE:
                continue
            below = f"{path}/{name}" if path else name
            if level < _LEVELS_ABOVE:
                pending.append((below, level + 1))
            elif _LEAF.fullmatch(name):
                yield below


def _names(descent: Descent, path: str, *, directories: bool) -> list[str]:
    """The entries of a directory that are directories, or that are not; none if it cannot be read."""
    try:
        with os.scandir(descent.enter(path)) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False) == directories]
    except OSError:
        return []


def _sweep_attempt(descent: Descent, path: str) -> bool:
    with _claimed(descent, path) as marker:
        if marker is not None:
            return remove_attempt(descent, path) is None
    remove_empty(descent, path)  # one without a marker is empty; the system refuses to remove any other
    return False


@contextlib.contextmanager
def _claimed(descent: Descent, path: str) -> Iterator[int | None]:
    """Hold the marker of an attempt directory meanwhile; None if it has a living owner, or no marker that opens."""
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
    """Bytes of the files below `directory`, as far as they can be seen; no link is followed."""
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
    """A marker whose maker died before it was in place, or is about to lock it: then the maker starts again."""
    try:
        marker = claim_marker(root, name)
    except OSError:
        return
    if marker is not None:
        unlink_if_there(name, root)
        os.close(marker)
