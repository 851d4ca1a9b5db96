"""How an entry shows that it still has its bytes: a seal of 16 bytes behind them.

The seal is made from the checksum of the verified bytes (XXH3-128) and the name of the entry, so that it also finds an
entry that has the name of another one. It finds damage, not malice: anyone who can write an entry can write its seal.
"""

from __future__ import annotations

import os
import stat

import xxhash

SEALED = ".xxh3"
"""How the names of entries with a seal end. Versions before the seal neither read nor write such names."""
SEAL_BYTES = 16


def seal_of(name: str, checksum: bytes) -> bytes:
    """Return the seal of an entry whose bytes have a checksum."""
    return xxhash.xxh3_128_digest(checksum + name.encode())


def can_be_sealed(status: os.stat_result, size: int) -> bool:
    """Whether a file is of the kind and size of an entry for an object of `size` bytes."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size == size + SEAL_BYTES > SEAL_BYTES
