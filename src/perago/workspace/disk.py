"""What the disk below a root can hold and tell apart, found out by trying."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from perago.workspace.keys import Folding
from perago.workspace.marker import hold
from perago.workspace.text import count, size

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
    total: int = 2**63
    """Bytes of the whole disk."""


_known: dict[int, Disk] = {}

FEW_INODES = 100
"""A disk with fewer free inodes has no room for an attempt directory and its log."""
_PROBE = b"perago" * 1024
_STAT_BLOCK = 512
"""The unit of `st_blocks`, whatever the block size of the disk is."""


def probe_disk(directory: Path) -> Disk:
    """What the disk below an existing, writable `directory` can do. Tried once per disk and process, in a temporary
    directory inside.

    Raises:
        OSError: the directory cannot be written to.
    """
    device = directory.stat().st_dev
    if device not in _known:
        with tempfile.TemporaryDirectory(prefix=".perago-probe-", dir=directory) as probe:
            composed, decomposed = Path(probe, f"a{_COMPOSED}"), Path(probe, f"a{_DECOMPOSED}")
            composed.touch()
            folding = Folding(case=Path(probe, f"A{_COMPOSED}").exists(), unicode_form=decomposed.exists())
            _known[device] = Disk(
                name_max=os.pathconf(probe, "PC_NAME_MAX"),
                path_max=os.pathconf(probe, "PC_PATH_MAX"),
                folding=folding,
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
        total=status.f_blocks * status.f_frsize,
    )


def disk_problem(root: Path, reserve: int) -> str | None:
    """Return why no attempt or log can be kept at `root`; None if its disk takes a file and has `reserve` bytes free.

    The file has no name, and nothing is left. A root that does not exist yet is not made: its parent is tried.
    """
    place = next(path for path in (root, *root.absolute().parents) if path.exists())
    try:
        space = free_space(place)
        with tempfile.TemporaryFile(prefix=".perago-probe-", dir=place) as file:
            file.write(_PROBE)
            file.flush()
            hold(file.fileno())
    except OSError as error:
        return f"nothing can be written to {root}: {error.strerror or error}"
    if space.size < reserve:
        return f"{root} has {size(space.size)} free, less than the reserve of {size(reserve)}"
    if space.inodes is not None and space.inodes < FEW_INODES:
        return f"{root} has room for {count(space.inodes, 'further file')} only (inodes)"
    return None


def occupied(root: Path) -> FreeSpace:
    """Return the space that would become free if everything below `root` were deleted, as far as it can be read."""
    used, inodes, pending = 0, 0, [root]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    used += entry.stat(follow_symlinks=False).st_blocks * _STAT_BLOCK
                    inodes += 1
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(Path(entry.path))
    return FreeSpace(used, 0, inodes)


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
