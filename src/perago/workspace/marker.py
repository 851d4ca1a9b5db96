"""The marker beside a workspace: who it belongs to, and a lock that says whether its owner is alive
(docs/design/contract.md 7).

The lock is `flock` on the marker, not a process id: those mean nothing across containers. The system lets go of it
when the last descriptor is closed, however the owner ends. The descriptor is closed on `exec`; a child that the task
function forks and leaves behind keeps the lock, rightly, because it may still write to the workspace.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Mapping
from typing import Any

MARKER = ".perago-attempt.json"
UNFINISHED = ".perago-new-"
"""How markers begin that are not in place yet. They stand in the root, so an attempt directory without a marker is
an empty one, which anybody may remove."""

_LARGEST = 64 * 1024
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK


def place_marker(root: int, directory: int, fields: Mapping[str, Any], place: str = MARKER) -> int:
    """Put a marker into `directory` that is held from the moment it can be seen; returns its descriptor.

    `root` and `directory` are descriptors of directories, `place` is the marker's name.

    Raises:
        FileExistsError: the directory has a marker.
        FileNotFoundError: another process removed the directory or swept the unfinished marker meanwhile: try again.
        OSError: the disk refused, or has no locks.
    """
    name = UNFINISHED + secrets.token_hex(8)
    marker = os.open(name, _OPEN | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=root)
    try:
        if not hold(marker):
            raise FileNotFoundError(errno.ENOENT, "swept before it was locked", name)  # noqa: TRY301 - closes the marker
        write_fields(marker, fields)
        os.link(name, place, src_dir_fd=root, dst_dir_fd=directory, follow_symlinks=False)
    except BaseException:
        os.close(marker)
        raise
    finally:
        unlink_if_there(name, root)
    return marker


def claim_marker(directory: int, name: str = MARKER) -> int | None:
    """Hold the marker of a dead owner; None if a process holds it or removes it.

    Raises:
        FileNotFoundError: there is no marker.
        OSError: it is no file that can be opened.
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
    """Replace what an open marker says, in place: the lock is on this very file, so no other may take its name.

    The text never gets shorter, so one write replaces it whole and a killed writer leaves no half of it.
    """
    text = json.dumps(fields).encode() + b"\n"
    os.pwrite(marker, text.ljust(os.fstat(marker).st_size), 0)


def held_fields(directory: int, name: str = MARKER) -> dict[str, Any] | None:
    """What the marker of a living owner says; None for a dead one's, and where there is no marker that makes sense."""
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
    """What an open marker says; None if it makes no sense."""
    try:
        fields = json.loads(os.pread(marker, _LARGEST, 0))
    except (OSError, ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def unlink_if_there(name: str, directory: int) -> None:
    """Delete `name` from an open directory; one that is gone is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _is_still(marker: int, name: str, directory: int) -> bool:
    """Whether the open marker is still the one of that name: it may have been removed before it was locked."""
    try:
        return os.path.samestat(os.fstat(marker), os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return False
