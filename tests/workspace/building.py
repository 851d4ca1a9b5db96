"""Small helpers that build trees and listings for these tests."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from perago.ports import ObjectEntry, Placement


def write(root: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def entry(key: str, text: str = "", *, size: int | None = None, checksum: str | None = None) -> ObjectEntry:
    return ObjectEntry(
        key=key,
        size=len(text.encode()) if size is None else size,
        checksum=md5(text) if checksum is None else checksum,
        mtime=1_600_000_000,
        content_type="text/csv",
        metadata={"origin": "test"},
        physical_address="",
    )


def download(workspace: Path, files: Mapping[str, str], prefix: str = "") -> list[Placement]:
    """What a store does: files with the objects' old modification time. The disk's clock has advanced afterwards."""
    write(workspace, files)
    placements = []
    for path, text in files.items():
        os.utime(workspace / path, (1_600_000_000, 1_600_000_000))
        placements.append(Placement(entry(prefix + path, text), workspace / path))
    newest = max(((workspace / path).stat().st_ctime_ns for path in files), default=0)
    while workspace.stat().st_ctime_ns <= newest:
        os.utime(workspace)
    return placements


def deepen(root: Path, depth: int, name: str = "d") -> None:
    """A chain of `depth` directories, longer than any path may be, with a file at its end."""
    descriptor = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=descriptor)
        below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(os.open("last", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor))
    os.close(descriptor)


@contextmanager
def no_more_files(but: int = 0) -> Iterator[None]:
    """Opening more than `but` files fails with `EMFILE`; what is open stays usable."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.open(os.devnull, os.O_RDONLY) for _ in range(but + 1)]
    for descriptor in free:
        os.close(descriptor)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[but], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
