"""Objects in a cache, and what a test does to the files of one."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import xxhash

from perago.cache import ObjectCache
from perago.cache.objects import LEDGER, ObjectId

PLENTY = 100_000_000


def object_of(content: bytes, address: str = "s3://bucket/data/1") -> ObjectId:
    return ObjectId(address, hashlib.md5(content, usedforsecurity=False).hexdigest(), len(content))


def put(cache: ObjectCache, content: bytes, address: str = "s3://bucket/data/1", *, held: bytes | None = None) -> None:
    """Add an object as an attempt does. `held`: what the file has by then, if it is not the verified content."""
    source = cache.root / "source"
    source.write_bytes(content if held is None else held)
    with source.open("rb") as file, _open(cache) as shelf:
        shelf.add(object_of(content, address), file.fileno(), xxhash.xxh3_128_digest(content))
    source.unlink()


def get(cache: ObjectCache, content: bytes, address: str = "s3://bucket/data/1") -> bytes | None:
    """What an attempt gets where it wants an object of this content; None: it has to fetch it."""
    target = cache.root / "target"
    with target.open("w+b") as file, _open(cache) as shelf:
        is_hit = shelf.copy_to(object_of(content, address), file.fileno())
        assert is_hit or os.fstat(file.fileno()).st_size == 0
    return target.read_bytes() if is_hit else None


def entries(cache: ObjectCache) -> list[Path]:
    """The files of the cache."""
    return sorted(path for path in (cache.root / ".cache").iterdir() if path.name != LEDGER)


def only_entry(cache: ObjectCache) -> Path:
    (entry,) = entries(cache)
    return entry


def flip_a_bit(entry: Path, at: int = 0) -> None:
    """Damage an entry as a disk does: its size and times stay."""
    status, content = entry.stat(), bytearray(entry.read_bytes())
    content[at] ^= 1
    entry.write_bytes(content)
    os.utime(entry, ns=(status.st_atime_ns, status.st_mtime_ns))


def full_disk(*_: object) -> int:
    """Replace a write to a disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _open(cache: ObjectCache):  # type: ignore[no-untyped-def]
    shelf = cache.open()
    assert shelf is not None
    return shelf
