"""The directory of the cache: where it is, the seals of its entries, and its ledger.

The seal is made from the checksum of the verified bytes (XXH3-128) and the name of the entry, so that it also detects
an entry under the wrong name. It detects damage, not malice, because anyone who can write an entry can write its seal.

The ledger is only an aid: the bytes are counted again once an hour, and a malformed ledger counts as an empty one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import xxhash

from perago.workspace.sweep import CACHE, read_fields, write_fields

LEDGER = "ledger.json"
UNFINISHED = ".new-"
"""Prefix of the names of files that are not complete yet."""

_BLOCK = 4096
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class CacheUnusable(Exception):
    """The directory of the cache cannot be used. The message says why, and what to do."""


def open_directory(root: Path, *, make: bool) -> int:
    """Return a descriptor of the cache's directory below a workspace root.

    Args:
        root: the workspace root.
        make: create the directory if it is missing.

    Raises:
        FileNotFoundError: the directory does not exist and `make` is False, or the root does not exist.
        CacheUnusable: something else has its name, or other users have access to it.
        OSError: the disk refused.
    """
    path = root / CACHE
    if make:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
    try:
        directory = os.open(path, _OPEN)
    except NotADirectoryError as error:  # what a symlink is, too, when a directory is asked for
        raise CacheUnusable(
            f"{path} must be the cache's directory, but it is a file or a symlink. Delete it."
        ) from error
    try:
        _check_private(path, os.fstat(directory))
    except BaseException:
        os.close(directory)
        raise
    return directory


def on_disk(size: int) -> int:
    """Return the bytes that a file of `size` bytes takes on a disk: complete blocks."""
    return -(-size // _BLOCK) * _BLOCK


@contextlib.contextmanager
def opened_directory(root: Path, *, make: bool = False) -> Iterator[int]:
    """Open the directory as `open_directory` does, and close it after the block."""
    directory = open_directory(root, make=make)
    try:
        yield directory
    finally:
        os.close(directory)


def _check_private(path: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid() or mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CacheUnusable(
            f"Other users can use {path} (owner {status.st_uid}, mode {mode:04o}). Delete it; perago creates it "
            "again, with mode 0700."
        )


SEALED = ".xxh3"
"""Suffix of the names of entries with a seal. Versions before the seal neither read nor write such names."""
SEAL_BYTES = 16


def seal_of(name: str, checksum: bytes) -> bytes:
    """Return the seal of an entry whose bytes have a checksum."""
    return xxhash.xxh3_128_digest(checksum + name.encode())


def can_be_sealed(status: os.stat_result, size: int) -> bool:
    """Whether a file is of the kind and size of an entry for an object of `size` bytes."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size == size + SEAL_BYTES > SEAL_BYTES


PATIENCE = 1.0
"""Seconds to wait for the ledger. After that only a count is lost."""
_PAUSE = 0.005
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(slots=True)
class Ledger:
    """The counts of the cache, since it was last cleared."""

    size: int = 0
    """Bytes of the objects, as known from the last count and later changes."""
    hits: int = 0
    """Objects that an attempt got from the cache instead of from lakeFS."""
    hit_bytes: int = 0
    misses: int = 0
    counted: float = 0.0
    """The time of the last count of the bytes, in seconds since the epoch."""


@contextlib.contextmanager
def locked_ledger(directory: int) -> Iterator[Ledger]:
    """Lock the ledger during the block, and write it at the end.

    Raises:
        TimeoutError: another process has held it for too long, perhaps because it was stopped.
        OSError: the disk refused, or something else has its name.
    """
    file = os.open(LEDGER, _FLAGS, 0o600, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise FileExistsError(f"{LEDGER} is not a file")
        _lock(file)
        ledger = _parsed(read_fields(file))
        yield ledger
        write_fields(file, asdict(ledger))
    finally:
        os.close(file)


def _lock(file: int) -> None:
    """Take the lock, which a running process holds for microseconds."""
    given_up = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > given_up:
                raise TimeoutError(errno.ETIMEDOUT, "another process holds the ledger of the cache") from None
            time.sleep(_PAUSE)
        else:
            return


def read_ledger(directory: int) -> Ledger:
    """Return the current ledger, or an empty one if it cannot be read."""
    try:
        file = os.open(LEDGER, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError:
        return Ledger()
    try:
        return _parsed(read_fields(file))
    finally:
        os.close(file)


def _parsed(found: dict[str, Any] | None) -> Ledger:
    known = {field.name: (found or {}).get(field.name) for field in fields(Ledger)}
    if not all(isinstance(value, int | float) and value >= 0 for value in known.values()):
        return Ledger()
    return Ledger(**known)  # type: ignore[arg-type]
