"""Keep the cache within its limit, and measure it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import xxhash

from perago.cache.objects import (
    LEDGER,
    SEAL_BYTES,
    UNFINISHED,
    CacheUnusable,
    can_be_sealed,
    hash_bytes,
    locked_ledger,
    on_disk,
    opened_directory,
    read_ledger,
    seal_of,
)
from perago.failure import Finding, Level
from perago.text import count, size
from perago.workspace.layout import free_space
from perago.workspace.scan import EXHAUSTED

_LIMIT_DIVISOR = 10
"""Divisor of the free space that gives the default limit."""
_TARGET_FRACTION = 0.9
"""The part of the limit that eviction leaves, because the attempts of the next minute need some room, too."""
_LOW_WATER = 1024**3
"""The free space of a disk in bytes below which the cache shrinks."""
_UNLOCKED_AGE, _ABANDONED_AGE = 60.0, 3600.0
"""Seconds without a write after which an unfinished file is considered abandoned: one that no process has locked, and
one on a disk without locks."""
_RECOUNT_INTERVAL = 3600.0
"""Seconds after which the bytes are counted again although no limit is near."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The contents of a cache, and how often it has helped since it was last cleared."""

    entries: int = 0
    size: int = 0
    """Bytes on disk."""
    hits: int = 0
    """Objects that attempts got from the cache."""
    hit_bytes: int = 0
    """Bytes of these objects."""
    misses: int = 0
    """Objects that attempts fetched from the server."""


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of reading every entry of a cache."""

    sound: int = 0
    """Entries whose bytes have their checksum."""
    damaged: tuple[str, ...] = ()
    """Names of the entries whose bytes do not have their checksum, and which were deleted."""


@dataclass(frozen=True, slots=True, order=True)
class _Entry:
    used: float
    name: str
    size: int


def usage(root: Path) -> Usage:
    """Count the contents of the cache of a workspace root. They are empty if the root has no cache.

    Raises:
        CacheUnusable: it is not this user's own directory.
        OSError: it cannot be read.
    """
    with contextlib.suppress(FileNotFoundError), opened_directory(root) as directory:
        entries, ledger = list(_entries(directory)), read_ledger(directory)
        return Usage(len(entries), _total(entries), ledger.hits, ledger.hit_bytes, ledger.misses)
    return Usage()


def default_limit(root: Path) -> int:
    """Return a tenth of what is free at `root` or would be without its cache, in bytes. The root exists.

    Raises:
        CacheUnusable, OSError: as `usage`.
    """
    return (free_space(root).size + usage(root).size) // _LIMIT_DIVISOR


def clear(root: Path) -> Usage:
    """Delete every entry, and forget the counts; returns the former contents. Attempts may run concurrently.

    Raises:
        CacheUnusable, OSError: as `usage`.
    """
    before = usage(root)
    with contextlib.suppress(FileNotFoundError), opened_directory(root) as directory:
        for name in _names(directory):
            _unlink(name, directory)
    return before


def verify(root: Path) -> Verified:
    """Read every entry, and delete those whose bytes do not have their checksum. Attempts may run concurrently.

    Raises:
        CacheUnusable, OSError: as `usage`.
    """
    sound, damaged = 0, []
    with contextlib.suppress(FileNotFoundError), opened_directory(root) as directory:
        for entry in _entries(directory):
            if (is_sound := _is_sound(directory, entry.name)) is False:
                _unlink(entry.name, directory)
                damaged.append(entry.name)
            else:
                sound += bool(is_sound)
        if damaged:
            _shrink(directory, lambda total: total)
    return Verified(sound, tuple(sorted(damaged)))


def _is_sound(directory: int, name: str) -> bool | None:
    """Whether the bytes of an entry have its checksum; None if the entry was deleted in the meantime."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        return False
    try:
        status, checksum = os.fstat(file), xxhash.xxh3_128()
        size = status.st_size - SEAL_BYTES
        if not can_be_sealed(status, size):
            return False
        hash_bytes(file, size, checksum)
        return os.pread(file, SEAL_BYTES, size) == seal_of(name, checksum.digest())
    except OSError:
        return False
    finally:
        os.close(file)


def trim(root: Path, limit: int) -> int:
    """Delete the entries that were unused for longest until the cache keeps to `limit` and the disk has some space.
    Return the number of deleted entries. All entries are checked only if there is a reason, or once an hour.

    Raises:
        CacheUnusable: as `usage`.
        OSError: the disk failed.
    """
    with contextlib.suppress(FileNotFoundError), opened_directory(root) as directory:
        ledger, short = read_ledger(directory), max(0, _LOW_WATER - free_space(root).size)
        near = ledger.size > _TARGET_FRACTION * limit or (short and ledger.size)
        if near or time.time() - ledger.counted >= _RECOUNT_INTERVAL:
            return _shrink(directory, lambda total: min(int(_TARGET_FRACTION * limit), total - short))
    return 0


def give_room(root: Path, size: int) -> bool:
    """Delete entries of at least `size` bytes in all, or all entries, because an attempt needs the space. Return False
    if no entry exists.

    Raises:
        CacheUnusable, OSError: as `trim`.
    """
    with contextlib.suppress(FileNotFoundError), opened_directory(root) as directory:
        return _shrink(directory, lambda total: total - size) > 0
    return False


def _shrink(directory: int, target_of: Callable[[int], int]) -> int:
    """Delete entries until at most `target_of` the present bytes are left, and note the size in the ledger."""
    size_before = read_ledger(directory).size
    oldest_first = sorted(_entries(directory))
    held, deleted = _total(oldest_first), 0
    target = target_of(held)
    for entry in oldest_first:
        if held <= target:
            break
        _unlink(entry.name, directory)
        held, deleted = held - entry.size, deleted + 1
    with contextlib.suppress(TimeoutError), locked_ledger(directory) as ledger:
        # Attempts can have added objects since the listing. Those that are not counted would hide for an hour.
        added = max(0, ledger.size - size_before)
        ledger.size, ledger.counted = held + added, time.time()
    return deleted


def _total(entries: Iterable[_Entry]) -> int:
    return sum(entry.size for entry in entries)


def _entries(directory: int) -> Iterator[_Entry]:
    """Yield everything but the ledger. Delete files that were left unfinished."""
    now = time.time()
    for name in _names(directory):
        if name == LEDGER:
            continue
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if not name.startswith(UNFINISHED):
            yield _Entry(status.st_atime, name, on_disk(status.st_size))
        elif _is_abandoned(name, directory, now - status.st_mtime):
            _unlink(name, directory)


def _is_abandoned(name: str, directory: int, age: float) -> bool:
    """Whether the process that wrote an unfinished file has ended, perhaps killed during an upload of many bytes."""
    if age <= _UNLOCKED_AGE:
        return False
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError:
        return age > _ABANDONED_AGE
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return age > _ABANDONED_AGE
    finally:
        os.close(file)
    return True


def _names(directory: int) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries]


def _unlink(name: str, directory: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=directory)


def check_cache(root: Path, limit: int | None) -> Iterator[Finding]:
    """Check the object cache below a workspace root, whose size `limit` limits (None: the default)."""
    try:
        cached = usage(root)
        if limit is None and root.exists():
            limit = default_limit(root)
    except CacheUnusable as error:
        why = "attempts fetch every object from lakeFS"
        yield Finding("cache", Level.WARNING, f"the cache cannot be used: {error}", why, f"remove {root / '.cache'}")
        return
    held = f"{count(cached.entries, 'object')}, {size(cached.size)}"
    yield Finding("cache", Level.OK, "off" if limit == 0 else f"holds {held}")
