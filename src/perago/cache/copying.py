"""Copies of files by the cheapest way that the disk offers. Never a hard link: two names would share their bytes."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Iterator

import xxhash

_FICLONE = 0x40049409
"""Linux' request to let two files share their blocks until one of them is written to (`ioctl_ficlonerange(2)`)."""
_BLOCK = 1024 * 1024
"""Bytes of a read. With less, hashing while copying is slower than a copy by the system."""
_SMALL = 64 * 1024
"""Bytes up to which a copy is as fast as a clone that is read to verify it, measured on btrfs."""
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EPERM)

_without_clones: set[int] = set()
"""Devices that have refused to clone."""


def copy_bytes(source: int, destination: int, size: int, checksum: xxhash.xxh3_128 | None = None) -> int:
    """Copy the first `size` bytes of an open file into an empty one, and return how many there were.

    Args:
        source: open for reading.
        destination: open for writing, and for reading if there is a `checksum`.
        size: in bytes.
        checksum: is updated with the bytes of the copy. Those of a clone are read from the clone.

    Raises:
        OSError: the disk refused.
    """
    if size > _SMALL and _clone(source, destination):
        os.ftruncate(destination, min(size, os.fstat(destination).st_size))
        return os.fstat(destination).st_size if checksum is None else hash_bytes(destination, size, checksum)
    done = 0
    for block in _blocks(source, size):
        if checksum is not None:
            checksum.update(block)
        done += _write_all(destination, block)
    return done


def hash_bytes(file: int, size: int, checksum: xxhash.xxh3_128) -> int:
    """Update `checksum` with the first `size` bytes of an open file, and return how many there were.

    Raises:
        OSError: the disk refused.
    """
    done = 0
    for block in _blocks(file, size):
        checksum.update(block)
        done += len(block)
    return done


def _clone(source: int, destination: int) -> bool:
    device = os.fstat(destination).st_dev
    if sys.platform != "linux" or device in _without_clones:
        return False
    try:
        fcntl.ioctl(destination, _FICLONE, source)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        _without_clones.add(device)
        return False
    return True


def _blocks(file: int, size: int) -> Iterator[memoryview]:
    """Read the first `size` bytes of an open file, all through one buffer."""
    buffer, done = memoryview(bytearray(min(_BLOCK, size))), 0
    while done < size and (count := os.preadv(file, [buffer[: size - done]], done)):
        yield buffer[:count]
        done += count


def _write_all(destination: int, block: memoryview) -> int:
    rest = block
    while rest:
        rest = rest[os.write(destination, rest) :]
    return len(block)
