"""The private local directory of one delivery.

    <root>/<first 8 characters of the task id>-<15 hexadecimal digits>/
        .perago-attempt.json    the marker, locked while the attempt lives
        workspace/              what the task function gets, if its task has a workspace
        cwd/, tmp/              its current directory and its temporary directory
    <root>/.cache/              cached objects (`perago.cache`), which belong to no attempt
    <root>/.workers/            the workers of this root (`perago.worker.presence`)

The name is short, because a socket in `tmp` may have about 100 characters in its path. An attempt makes few
directories, because making and removing one takes up to a millisecond.

Any number of processes create, remove and sweep concurrently, without a lock of the root. This is safe for three
reasons. A marker is locked before it has its name, so an unlocked one has no living owner. A directory without a marker
is empty. The system removes only empty directories, and a process whose directory was removed starts again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perago.settings.sources import open_to_others
from perago.text import listing, quoted
from perago.workspace.keys import is_utf8
from perago.workspace.layout import disk_problem
from perago.workspace.scan import DIRECTORY, Descent, WorkspaceRefused
from perago.workspace.sweep import CACHE, MARKER, claim_marker, place_marker, remove_attempt, sweep, unlink_if_there

if TYPE_CHECKING:
    from perago.ports import Delivery

__all__ = ["WORKSPACE", "AttemptDirectory", "sweep"]

WORKSPACE = "workspace"

_CURRENT = "cwd"
_TEMPORARY = "tmp"

_PATIENCE_SECONDS = 10.0
"""The seconds for which the creation of a directory is repeated. It takes less than a millisecond, and only fails if a
sweep or a removal deletes the empty directory in between. So it succeeds even during permanent sweeps."""

_found_safe: dict[Path, tuple[int, int, int, int]] = {}
"""Device, inode, owner and mode of the roots that `check_root` has accepted."""


class DirectoryRefused(WorkspaceRefused):
    """An attempt directory cannot be created: an id is hostile (final), the root is unusable, or the directory is in
    use."""


class AttemptDirectory:
    """An attempt directory that exists and is held by this process. Made by `create`, ended by `remove` or `close`."""

    def __init__(self, root: Path, relative: str, marker: int, held: int | None) -> None:
        self.root = root
        self.path: Path = root / relative
        self.workspace: Path = self.path / WORKSPACE
        self.current: Path = self.path / _CURRENT
        """The function's current directory."""
        self.temporary: Path = self.path / _TEMPORARY
        """The function's temporary directory."""
        self._relative = relative
        self._marker: int | None = marker
        self.held = held
        """A descriptor of the workspace as perago made it, to check the identity of the directory later. None without a
        workspace, and after `close`."""

    @classmethod
    def create(cls, root: Path, delivery: Delivery, *, workspace: bool = True) -> AttemptDirectory:
        """Create the directory of `delivery` and the empty directories in it, all with mode 0700. `root` is created if
        it is missing. With `workspace=False`, no workspace directory is created.

        The directory of a dead owner of the same delivery is removed first, because it is never used again. A living
        owner is not disturbed.

        Raises:
            DirectoryRefused: an id is not a plain file name (final), the root is unusable, or the directory is in use.
            OSError: the disk refused.
        """
        root = root.absolute()
        relative = directory_name(delivery)
        if problems := check_root(root):
            raise DirectoryRefused(" ".join(problems), retryable=True)
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = (*([WORKSPACE] if workspace else ()), _CURRENT, _TEMPORARY)
        given_up = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < given_up:
            try:
                return cls(root, relative, *_make(root, relative, _fields(delivery), names))
            except FileNotFoundError:
                continue
            except FileExistsError:
                _remove_stale(root, relative)
        raise DirectoryRefused(
            f"Another process removed the attempt directory {root / relative} each time perago created it, "
            f"for {_PATIENCE_SECONDS:g} seconds. Let no other program use PERAGO_WORKSPACE_ROOT.",
            retryable=True,
        )

    @property
    def is_unused(self) -> bool:
        """Whether the function has left nothing in it, so that removing it takes no time."""
        try:
            return not any(os.listdir(path) for path in (self.current, self.temporary))  # noqa: PTH208 - no gain here
        except OSError:
            return False

    def remove(self) -> str | None:
        """Delete the directory with its contents. Release the lock.

        Return a message about files that could not be deleted, or None. Never raise an error of the disk, because a
        failed removal is only logged.
        """
        if self._marker is None:
            return None
        try:
            with Descent(self.root, root_may_be_symlink=True) as descent:
                return remove_attempt(descent, self._relative)
        except OSError as error:
            return f"{self.path}: {error.strerror}"
        finally:
            self.close()

    def close(self) -> None:
        """Release the lock, and leave the directory for the next sweep. Safe to repeat."""
        for descriptor in (self._marker, self.held):
            if descriptor is not None:
                os.close(descriptor)
        self._marker = self.held = None


def directory_name(delivery: Delivery) -> str:
    """Return the name of the directory of `delivery`. Ids are checked, because the server accepts any text as an id.

    Raises:
        DirectoryRefused: an id cannot name a directory.
    """
    for what, name in (
        ("workflow id", delivery.workflow_id),
        ("task name", delivery.task_name),
        ("task id", delivery.task_id),
    ):
        problem = _name_problem(name)
        if problem:
            raise DirectoryRefused(
                f"The {what} {quoted(name)} cannot name a directory: it {problem}. Nothing was written.",
                retryable=False,
            )
    identity = json.dumps(_fields(delivery), sort_keys=True).encode()
    return f"{delivery.task_id[:8]}-{hashlib.sha256(identity).hexdigest()[:15]}"


def _name_problem(name: str) -> str | None:
    if name in ("", ".", ".."):
        return "is not a name"
    if name == CACHE:
        return "is that of perago's cache"
    if "/" in name or "\\" in name:
        return "contains a path separator"
    if not is_utf8(name) or not name.isprintable():
        return "contains characters that cannot be printed"
    return "is longer than 255 bytes" if len(name.encode()) > 255 else None


def _fields(delivery: Delivery) -> dict[str, Any]:
    return {
        "workflow_id": delivery.workflow_id,
        "task_name": delivery.task_name,
        "reference_name": delivery.reference_name,
        "iteration": delivery.iteration,
        "task_id": delivery.task_id,
        "retry_count": delivery.retry_count,
        "poll_count": delivery.poll_count,
        "start_time": delivery.start_time,
    }


def _make(root: Path, relative: str, fields: dict[str, Any], names: Sequence[str]) -> tuple[int, int | None]:
    with Descent(root, root_may_be_symlink=True) as descent:
        directory, is_new = _make_private(descent, relative)
        marker = place_marker(descent.root, directory, fields)
        try:
            if not is_new:
                _refuse_foreign_files(root / relative, directory)
            for name in names:
                os.mkdir(name, 0o700, dir_fd=directory)
            held = os.open(WORKSPACE, DIRECTORY, dir_fd=directory) if WORKSPACE in names else None
        except BaseException:
            os.close(marker)
            raise
    return marker, held


def _refuse_foreign_files(path: Path, directory: int) -> None:
    with os.scandir(directory) as entries:
        foreign = sorted(quoted(entry.name) for entry in entries if entry.name != MARKER)
    if foreign:
        unlink_if_there(MARKER, directory)
        raise DirectoryRefused(
            f"The attempt directory {path} contained {listing(foreign, 3)} before perago created it, and no "
            "marker, so it is not perago's. Move it away.",
            retryable=True,
        )


def _make_private(descent: Descent, name: str) -> tuple[int, bool]:
    """Return the open directory, and whether this call created it, so that it was empty."""
    try:
        os.mkdir(name, 0o700, dir_fd=descent.root)
        is_new = True
    except FileExistsError:
        is_new = False
    try:
        return descent.enter(name), is_new
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        raise DirectoryRefused(
            f"{quoted(name)} below the workspace root must be a directory, but it is a symlink or a file. Delete it; "
            "perago creates the directory.",
            retryable=True,
        ) from error


def _remove_stale(root: Path, relative: str) -> None:
    with Descent(root, root_may_be_symlink=True) as descent:
        try:
            marker = claim_marker(descent.enter(relative))
        except FileNotFoundError:
            return
        if marker is None:
            raise DirectoryRefused(
                f"The attempt directory {root / relative} is in use: another process works on the same delivery.",
                retryable=True,
            )
        try:
            problem = remove_attempt(descent, relative)
        finally:
            os.close(marker)
    if problem:
        raise DirectoryRefused(f"The directory of a dead process cannot be removed: {problem}.", retryable=True)


def check_root(root: Path) -> list[str]:
    """Return all reasons why `root` cannot be the workspace root.

    A root that does not exist is accepted if it can be created. The root itself can be a symlink, but no entry below
    it.

    The path to a safe root is not checked again while the root is the same directory, because only the user and the
    system could have changed it.
    """
    problems = []
    if (encoding := sys.getfilesystemencoding()) != "utf-8":
        problems.append(f"File names are written as {encoding} here, but object keys are UTF-8. Set PYTHONUTF8=1.")
    try:
        status = root.stat()
    except FileNotFoundError:
        return problems + (_cannot_be_made(root) or _open(root))
    except OSError as error:
        return [*problems, f"The workspace root {root} cannot be read ({error.strerror})."]
    if not stat.S_ISDIR(status.st_mode):
        return [*problems, f"The workspace root {root} is not a directory. Set PERAGO_WORKSPACE_ROOT to one."]
    identity = (status.st_dev, status.st_ino, status.st_uid, status.st_mode)
    if _found_safe.get(root) != identity:
        problems += _unsafe(root, status)
        if not problems:
            _found_safe[root] = identity
    return problems


def root_problem(root: Path, reserve: int) -> str | None:
    """Return why no attempt can begin at `root` now, as `disk_problem` and `check_root` see it; None if one can."""
    return disk_problem(root, reserve) or " ".join(check_root(root)) or None


def _cannot_be_made(root: Path) -> list[str]:
    if root.is_symlink():
        return [
            f"The workspace root {root} is a symlink to a path that does not exist. Create its target, or delete it."
        ]
    above = next((parent for parent in root.absolute().parents if os.path.lexists(parent)), Path("/"))
    if not above.is_dir():
        return [f"The workspace root {root} cannot be created: {above} is not a directory."]
    if not _writable(above):
        return [f"The workspace root {root} cannot be created: {above} is not writable for this user."]
    return []


def _unsafe(root: Path, status: os.stat_result) -> list[str]:
    problems = []
    advice = "Set PERAGO_WORKSPACE_ROOT to a directory of this user. perago creates it if it does not exist."
    if status.st_uid != os.geteuid():
        problems.append(f"The workspace root {root} belongs to user {status.st_uid}, not to {os.geteuid()}. {advice}")
    else:
        problems += _open(root)
    if not _writable(root):
        problems.append(f"The workspace root {root} is not writable for this user. {advice}")
    return problems


def _open(root: Path) -> list[str]:
    problem = open_to_others(root)
    return [] if problem is None else [f"The workspace root {root} {problem}."]


def _writable(directory: Path) -> bool:
    return os.access(directory, os.R_OK | os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
