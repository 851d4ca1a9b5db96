"""MD5 of local files, as lakeFS lists it for what was uploaded through its API. No security rests on it."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from perago.workspace.descent import open_file
from perago.workspace.errors import EXHAUSTED, FileChanging, UnreadableFile
from perago.workspace.scan import FileStat, open_workspace
from perago.workspace.text import quoted

_REPLACED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)
"""What opening a file says that vanished or became something else."""

_THREADS = 4
_WORTH_THREADS = 8 * 1024 * 1024
"""Bytes from which several threads beat one: hashing a large file lets go of the GIL, opening a small one does not."""


def hash_files(root: Path, files: Mapping[str, FileStat]) -> dict[str, str]:
    """The hex MD5 of each of `files` below `root`, which must still be what the scan saw.

    Raises:
        UnreadableFile: the system refused to open or read one.
        FileChanging: one changed, vanished, or is no regular file any more.
        OSError: too many files are open.
        WorkspaceGone: so did the workspace itself.
    """
    if not files:
        return {}
    with open_workspace(root) as descent:
        return _hash_all(descent.root, files)


def _hash_all(directory: int, files: Mapping[str, FileStat]) -> dict[str, str]:
    def digest(path: str) -> str:
        return _hash_file(directory, path, files[path])

    threads = min(_THREADS, len(files), os.cpu_count() or 1)
    if threads == 1 or sum(status.size for status in files.values()) < _WORTH_THREADS:
        return {path: digest(path) for path in files}
    with ThreadPoolExecutor(threads, thread_name_prefix="perago-md5") as pool:
        return dict(zip(files, pool.map(digest, files), strict=True))


def _hash_file(directory: int, path: str, expected: FileStat) -> str:
    try:
        descriptor = open_file(directory, path)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        raise _changing(path) if error.errno in _REPLACED else _unreadable(path, error) from error
    try:
        _check_unchanged(descriptor, path, expected)
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
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
        f"The file {quoted(path)} cannot be read ({error.strerror}), so whether it changed cannot be known. "
        "The task function must leave its files readable."
    )
