"""A task that makes and changes many files, or one large one."""

from __future__ import annotations

import hashlib
import os
import resource
import sys
from pathlib import Path

from pydantic import BaseModel

from perago import WorkspaceSpec, task

from .acting import controls, md5, named

PIECE = 1024 * 1024


class Bulk(BaseModel):
    """Actions in this order."""

    make: int = 0
    """Files of `size` bytes."""
    size: int = 4096
    change: int = 0
    remove: int = 0
    large: int = 0
    """Pieces of 1 MiB of one large file."""
    check_large: bool = False


class Made(BaseModel):
    """The number of files before the actions, and the process."""

    pid: int
    files: int
    large_md5: str = ""
    peak_memory: int = 0
    """Peak memory of this process, in bytes."""


@task(name=named("bulk"), owner_email="live@example.com", workspace=WorkspaceSpec(), controls=controls())
def work(workspace: Path, params: Bulk) -> Made:
    """Make and change files `many/00/00000` and so on, and `large`."""
    count = sum(path.is_file() for path in workspace.rglob("*"))
    for number in range(params.make):
        path = workspace / _path(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(number.to_bytes(8, "big") + os.urandom(params.size - 8))
    for number in range(params.change):
        (workspace / _path(number)).write_bytes(b"changed")
    for number in range(params.change, params.change + params.remove):
        (workspace / _path(number)).unlink()
    digest = _write_large(workspace / "large", params.large)
    if params.check_large:
        digest = md5(workspace / "large")
        (workspace / "large.md5").write_text(digest)
    return Made(pid=os.getpid(), files=count, large_md5=digest, peak_memory=_peak_memory())


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _path(number: int) -> str:
    return f"many/{number % 40:02}/{number:05}"


def _write_large(path: Path, pieces: int) -> str:
    if not pieces:
        return ""
    digest, noise = hashlib.md5(), os.urandom(PIECE - 8)
    with path.open("wb") as file:
        for number in range(pieces):
            piece = number.to_bytes(8, "big") + noise
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()
