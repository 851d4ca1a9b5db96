"""Where the cache lies below a workspace root, opened so that no link leads out of it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from perago.workspace.sweep import CACHE

LEDGER = "ledger.json"
UNFINISHED = ".new-"
"""How the names of files begin that are not whole yet."""

_BLOCK = 4096
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class CacheUnusable(Exception):
    """The directory of the cache cannot be used. The message says why, and what to do."""


def open_directory(root: Path, *, make: bool) -> int:
    """A descriptor of the cache's directory below a workspace root.

    Args:
        root: the workspace root.
        make: make the directory where it is missing.

    Raises:
        FileNotFoundError: there is none, and none was to be made; or there is no root.
        CacheUnusable: something else has its name, or other users may look into it.
        OSError: the disk refused.
    """
    path = root / CACHE
    if make:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
    try:
        directory = os.open(path, _OPEN)
    except NotADirectoryError as error:  # what a symlink is, too, when a directory is asked for
        raise CacheUnusable(f"{path} is a file or a symlink where the cache's directory belongs. Delete it.") from error
    try:
        _check_private(path, os.fstat(directory))
    except BaseException:
        os.close(directory)
        raise
    return directory


def on_disk(size: int) -> int:
    """What a file of `size` bytes takes from a disk: whole blocks."""
    return -(-size // _BLOCK) * _BLOCK


@contextlib.contextmanager
def opened_directory(root: Path, *, make: bool = False) -> Iterator[int]:
    """`open_directory`, closed afterwards."""
    directory = open_directory(root, make=make)
    try:
        yield directory
    finally:
        os.close(directory)


def _check_private(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid() or mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CacheUnusable(
            f"{path} is not this user's alone (owner {status.st_uid}, mode {mode:04o}). Delete it; perago makes it "
            "itself, with mode 0700."
        )
