"""What the disk below a workspace can hold and tell apart, found out by trying."""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from perago.workspace.keys import Folding

_COMPOSED, _DECOMPOSED = "\u00e9", "e\u0301"


@dataclass(frozen=True, slots=True)
class Disk:
    """The lasting properties of a file system. Lengths are bytes."""

    name_max: int
    path_max: int
    """Of an absolute path, with the NUL that ends it."""
    folding: Folding
    stat_tells_changes: bool
    """False where a write through a memory map can leave size and times as they were: on Linux' tmpfs the page that
    was read before is written without the kernel noticing. Unchanged times then prove nothing."""


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """What the disk has left for us. `inodes` is None where they are made on demand."""

    size: int
    block: int
    inodes: int | None


_known: dict[int, Disk] = {}


def probe_disk(directory: Path) -> Disk:
    """What the disk below an existing, writable `directory` can do. Tried once per disk and process, in a temporary
    directory inside.

    Raises:
        OSError: the directory cannot be written to.
    """
    device = directory.stat().st_dev
    if device not in _known:
        with tempfile.TemporaryDirectory(prefix=".perago-probe-", dir=directory) as probe:
            _known[device] = Disk(
                name_max=os.pathconf(probe, "PC_NAME_MAX"),
                path_max=os.pathconf(probe, "PC_PATH_MAX"),
                folding=_probe_folding(Path(probe)),
                stat_tells_changes=_probe_mapped_writes(Path(probe)),
            )
    return _known[device]


def free_space(directory: Path) -> FreeSpace:
    """What an ordinary user may still write below `directory`."""
    status = os.statvfs(directory)
    return FreeSpace(
        size=status.f_bavail * status.f_frsize,
        block=status.f_frsize,
        inodes=status.f_favail if status.f_files else None,
    )


def _probe_folding(probe: Path) -> Folding:
    (probe / f"a{_COMPOSED}").touch()
    return Folding(case=(probe / f"A{_COMPOSED}").exists(), unicode_form=(probe / f"a{_DECOMPOSED}").exists())


def _probe_mapped_writes(probe: Path) -> bool:
    """Whether a write through a map that was read first shows in the times of the file."""
    file = probe / "mapped"
    file.write_bytes(b"x" * mmap.PAGESIZE)
    os.utime(file, (0, 0))
    before = file.stat()
    try:
        with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
            mapped[1] = mapped[0]
            mapped.flush()
    except OSError:  # no shared maps on this disk, so no writes through them either
        return True
    return file.stat().st_mtime_ns != before.st_mtime_ns
