"""How an entry shows that its bytes have been checked: by a modification time that no write would give it.

The time is derived from the entry's name and from this boot of the machine. A write sets another one, and so does a
power loss, in effect: after the next boot all stamps are those of an earlier one. Then the bytes are read and checked
before they are used again. A file that a power loss has torn is found by this, without an fsync for each object.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from functools import cache
from pathlib import Path

_RANGE = 1 << 30
"""Seconds after 1970; the end is in 2004, so the clock does not give such a time by itself."""
_USED_AGAIN = 600 * 1_000_000_000
"""Nanoseconds after which a use is worth noting anew."""


@cache
def _boot() -> str:
    """This boot of the machine. Where the system does not tell, this process: each checks each entry once, then."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except (OSError, ValueError):
        return secrets.token_hex(16)


def stamp_of(name: str) -> int:
    """The modification time of a checked entry, in nanoseconds. Whole seconds: some disks know no others."""
    digest = hashlib.blake2b(f"{_boot()}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % _RANGE * 1_000_000_000


def is_stamped(name: str, status: os.stat_result) -> bool:
    """Whether an entry was checked, and not written to since."""
    return status.st_mtime_ns == stamp_of(name)


def stamp(file: int, name: str, now: int) -> None:
    """Mark an open entry as checked and used now (nanoseconds since the epoch)."""
    os.utime(file, ns=(now, stamp_of(name)))


def is_stale(status: os.stat_result, now: int) -> bool:
    """Whether the last use that is noted was so long ago that another one should be."""
    return now - status.st_atime_ns > _USED_AGAIN
