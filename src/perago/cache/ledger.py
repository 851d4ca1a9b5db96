"""What the cache remembers about itself, in one small file that is locked while it is changed.

Only a help: the bytes are counted anew now and then, and a ledger that makes no sense is an empty one.
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
from typing import Any

from perago.cache.places import LEDGER
from perago.workspace.marker import read_fields, write_fields

PATIENCE = 1.0
"""Seconds that the ledger is waited for; then a count is lost, and nothing else."""
_PAUSE = 0.005
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(slots=True)
class Ledger:
    """All numbers are since the cache was last cleared."""

    size: int = 0
    """Bytes of the objects, as far as it is known without counting them."""
    hits: int = 0
    """Objects that an attempt got from the cache instead of from lakeFS."""
    hit_bytes: int = 0
    misses: int = 0
    counted: float = 0.0
    """When the bytes were last counted, in seconds since the epoch."""


@contextlib.contextmanager
def locked_ledger(directory: int) -> Iterator[Ledger]:
    """The ledger, which no other process changes meanwhile, and which is written afterwards.

    Raises:
        TimeoutError: another process has held it for too long, perhaps because it was stopped meanwhile.
        OSError: the disk refused, or something else has its name.
    """
    file = os.open(LEDGER, _FLAGS, 0o600, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise FileExistsError(f"{LEDGER} is no file")
        _lock(file)
        ledger = _parsed(read_fields(file))
        yield ledger
        write_fields(file, asdict(ledger))
    finally:
        os.close(file)


def _lock(file: int) -> None:
    """Take the lock, which is held for microseconds by who runs."""
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
    """The ledger as it is now; an empty one where it cannot be read."""
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
