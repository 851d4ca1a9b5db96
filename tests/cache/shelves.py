"""Objects in a cache, and what a test does to the files of one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from perago.cache import ObjectCache
from perago.cache.objects import ObjectId
from perago.cache.places import LEDGER

PLENTY = 100_000_000


def object_of(content: bytes, address: str = "s3://bucket/data/1") -> ObjectId:
    return ObjectId(address, hashlib.md5(content, usedforsecurity=False).hexdigest(), len(content))


def put(cache: ObjectCache, content: bytes, address: str = "s3://bucket/data/1", *, is_checked: bool = True) -> None:
    """Add an object as an attempt does."""
    source = cache.root / "source"
    source.write_bytes(content)
    with source.open("rb") as file, _open(cache) as shelf:
        shelf.add(object_of(content, address), file.fileno(), is_checked=is_checked)
    source.unlink()


def get(cache: ObjectCache, content: bytes, address: str = "s3://bucket/data/1") -> bytes | None:
    """What an attempt gets where it wants an object of this content; None: it has to fetch it."""
    target = cache.root / "target"
    with target.open("w+b") as file, _open(cache) as shelf:
        found = shelf.copy_to(object_of(content, address), file.fileno())
        assert found or os.fstat(file.fileno()).st_size == 0
    return target.read_bytes() if found else None


def entries(cache: ObjectCache) -> list[Path]:
    """The files of the cache."""
    return sorted(path for path in (cache.root / ".cache").iterdir() if path.name != LEDGER)


def only_entry(cache: ObjectCache) -> Path:
    (entry,) = entries(cache)
    return entry


def _open(cache: ObjectCache):  # type: ignore[no-untyped-def]
    shelf = cache.open()
    assert shelf is not None
    return shelf
