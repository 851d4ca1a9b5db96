"""Removing a tree that somebody else's code has written: read-only, deep, oddly named, linked elsewhere."""

from __future__ import annotations

import errno
import hashlib
import os
import stat

from perago.workspace.descent import Descent, split
from perago.workspace.marker import MARKER, unlink_if_there
from perago.workspace.text import listing, quoted


def temporary_link(directory: str) -> str:
    """The name of the link in the root that leads to the temporary directory of the attempt in `directory`."""
    return f".perago-tmp-{hashlib.sha256(directory.encode()).hexdigest()[:16]}"


def remove_attempt(descent: Descent, directory: str) -> str | None:
    """Remove an attempt directory whose marker the caller holds, its link, and those above it that are empty then.

    The marker goes last, so whoever finds the work half done can finish it. Returns what went wrong, or None.
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
    """Delete what is no directory; returns the names of those that are."""
    children = []
    with os.scandir(descriptor) as opened:
        entries = list(opened)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
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
