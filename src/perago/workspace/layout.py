"""The free space and the names on the disk below a root, and the path of each object of a listing.

The directories are created here, once. The store writes the objects.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perago.authoring.workspace import Listing
from perago.failure import Finding, Level
from perago.ports import ObjectEntry, Placement
from perago.text import count, listing, quoted, size
from perago.workspace.keys import Folding, KeyProblem, NameLimits, check_keys, directories_above, is_reserved
from perago.workspace.scan import Descent, WorkspaceRefused, split
from perago.workspace.sweep import hold

_COMPOSED, _DECOMPOSED = "\u00e9", "e\u0301"


@dataclass(frozen=True, slots=True)
class Disk:
    """The lasting properties of a file system. Lengths are bytes."""

    name_max: int
    path_max: int
    """The largest length of an absolute path, with the NUL at its end."""
    folding: Folding
    stat_shows_changes: bool
    """Whether unchanged times prove unchanged bytes. On Linux' tmpfs a write through a memory map can leave size and
    times unchanged, because the kernel does not notice a write to a page that was read before."""


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """The free space of a disk. `inodes` is None if the disk creates them on demand."""

    size: int
    block: int
    inodes: int | None
    total: int = 2**63
    """Size of the disk in bytes."""


FULL = (errno.ENOSPC, errno.EDQUOT)
"""The errors of a disk without room."""


def says_full(text: str) -> bool:
    """Whether the text of any error says that a disk is full."""
    return any(os.strerror(number) in text for number in FULL)


_known: dict[int, Disk] = {}

FEW_INODES = 100
"""Minimum number of free inodes for an attempt directory and its log."""
_PROBE = b"perago" * 1024
_STAT_BLOCK = 512
"""The unit of `st_blocks`, whatever the block size of the disk is."""


def probe_disk(directory: Path) -> Disk:
    """Test the features of the disk below an existing, writable `directory`, once per disk and process, in a temporary
    directory.

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
                stat_shows_changes=_probe_mapped_writes(Path(probe)),
            )
    return _known[device]


def free_space(directory: Path) -> FreeSpace:
    """Return the space that an ordinary user can still write below `directory`."""
    status = os.statvfs(directory)
    return FreeSpace(
        size=status.f_bavail * status.f_frsize,
        block=status.f_frsize,
        inodes=status.f_favail if status.f_files else None,
        total=status.f_blocks * status.f_frsize,
    )


def existing(root: Path) -> Path:
    """Return `root`, or the closest of its parents that exists."""
    return next(path for path in (root, *root.absolute().parents) if path.exists())


def disk_problem(root: Path, reserve: int) -> str | None:
    """Return the reason why no attempt or log can be kept at `root`; None if its disk accepts a file and has `reserve`
    bytes free.

    The test file has no name, so it leaves nothing behind. For a root that does not exist yet, its parent is tested.
    """
    place = existing(root)
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


MIN_FREE_SPACE = 1024**3
"""Bytes below which `check_disk` warns of a full disk."""


def check_disk(variable: str, root: Path) -> Iterator[Finding]:
    """Check, as a worker does, whether a root has room and takes a file with a lock. The file is removed, and a missing
    root is not created."""
    advice = f"free or repair this disk, or set {variable} to a directory on another disk"
    if (problem := disk_problem(root, RESERVE)) is not None:
        yield Finding("disk", Level.PROBLEM, problem, "workers here take no work until this is repaired", advice)
        return
    free = free_space(next(path for path in (root, *root.parents) if path.exists())).size
    text = f"{root} has {size(free)} free"
    if free < MIN_FREE_SPACE:
        why = f"workers stop taking work below {size(RESERVE)}"
        yield Finding("disk", Level.WARNING, text, why, advice)
    else:
        yield Finding("disk", Level.OK, text)


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
    """Whether a write through a memory map that was read before changes the times of the file."""
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


RESERVE = 64 * 1024 * 1024
"""Bytes that a download leaves free, because a full disk stops all attempts. A worker with less free space takes no
work."""
_RELEASE_SECONDS = 1
"""Seconds to wait for free space, because a disk frees the space of a deleted file a moment after its name has
disappeared."""


class LayoutRefused(WorkspaceRefused):
    """A listing cannot be written to this disk, because of its names or its size (final), or because the disk is too
    small (retryable, because another host can have a larger one)."""


class NoRoom(LayoutRefused):
    """The disk is too full for a listing. `is_passing`: other attempts and the cache use the space, or only the reserve
    is missing. Otherwise other programs use the space, perhaps for good."""

    def __init__(self, message: str, is_passing: bool) -> None:
        super().__init__(message, retryable=True)
        self.is_passing = is_passing

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (str(self), self.is_passing))


OBJECT_MEMORY = 1024
"""Bytes of memory that an attempt needs for each object of a listing, measured."""
_DIRECTORY_MEMORY = 200
"""Bytes of memory for a directory of a listing, without its path."""


def usable_memory() -> int:
    """Return the bytes of memory that this process can use: those of the machine, or the limit of its container."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # of version 2 and 1; "max": there is no limit
            limits.append(int(Path(path).read_text()))
    return min(limits)


class ListingBound:
    """Counts the objects of a listing while it arrives, and the memory that they and their directories need.

    Args:
        key_prefix: the prefix of the keys of the workspace.
        most: `PERAGO_MAX_WORKSPACE_OBJECTS`.
        memory: the largest number of bytes; None: half of `usable_memory`.
    """

    def __init__(self, key_prefix: str, most: int, memory: int | None = None) -> None:
        self._key_prefix = key_prefix
        self._most = most
        self._memory = usable_memory() // 2 if memory is None else memory
        self.objects: int = 0
        self.directories: int = 0
        self._directory_bytes = 0
        self._last = ""
        """The directory of the last object."""

    def check(self, page: Sequence[ObjectEntry]) -> None:
        """Count the next objects, which are in the order of their keys.

        Raises:
            LayoutRefused: there are too many objects (final), or they need too much memory (retryable, because another
                host can have more).
        """
        self.objects += len(page)
        for entry in page:
            above = entry.key[len(self._key_prefix) :].rpartition("/")[0]
            if above != self._last:
                known, self._last = f"{self._last}/", above
                while above and not known.startswith(f"{above}/"):
                    self.directories += 1
                    self._directory_bytes += _DIRECTORY_MEMORY + len(above)
                    above = above.rpartition("/")[0]
        if self.objects > self._most:
            raise LayoutRefused(
                f"The workspace ref has more objects than the {self._most:,} that PERAGO_MAX_WORKSPACE_OBJECTS "
                "allows; nothing was downloaded. Raise the limit, or narrow the task's prefix.",
                retryable=False,
            )
        if self.objects * OBJECT_MEMORY + self._directory_bytes > self._memory:
            raise LayoutRefused(
                f"The first {count(self.objects, 'object')} of the workspace ref, in "
                f"{count(self.directories, 'directory', 'directories')}, need more than {size(self._memory)} of "
                "memory, which is half of what this worker can use; nothing was downloaded. Narrow the task's prefix, "
                "or run it where there is more memory.",
                retryable=True,
            )


def plan_layout(
    entries: Sequence[ObjectEntry], key_prefix: str, workspace: Path, *, disk: Disk | None = None
) -> list[Placement]:
    """Return a placement for every entry. Directory markers and `_lakefs_actions/` get no path.

    Args:
        entries: The listing of the commit.
        key_prefix: The prefix of the keys of the workspace.
        workspace: The directory that becomes the workspace; it exists.
        disk: The features of the disk; None: they are tested at `workspace`.

    Raises:
        LayoutRefused: some keys cannot be files; the error names all of them.
    """
    disk = disk or probe_disk(workspace)
    used = len(os.fsencode(workspace.absolute())) + 2  # of a path: the workspace's own, a slash, and a NUL at its end
    limits = NameLimits(disk.name_max, max(disk.path_max - used, 0), disk.folding)
    problems = check_keys(entries, key_prefix, limits)
    if problems:
        raise LayoutRefused(_describe(problems), retryable=False)
    placements = []
    for entry in entries:
        path = entry.key[len(key_prefix) :]
        is_file = path and not path.endswith("/") and not is_reserved(entry.key)
        placements.append(Placement(entry, workspace / path if is_file else None))
    return placements


def listing_of(placements: Iterable[Placement], key_prefix: str) -> Listing:
    """Return the result of a scan of the workspace after the download."""
    placements = list(placements)
    placed = [placement.entry for placement in placements if placement.path is not None]
    sizes = {entry.key[len(key_prefix) :]: entry.size for entry in placed}
    return Listing(sizes, directories_to_create(placements, key_prefix))


def check_room(
    placed: Sequence[Placement],
    key_prefix: str,
    workspace: Path,
    *,
    max_bytes: int | None = None,
    root: Path | None = None,
) -> None:
    """Check the size of the files against the limit and the free space.

    Args:
        placed: The placements from `plan_layout`.
        key_prefix: The prefix of the keys of the workspace.
        workspace: The directory that becomes the workspace; it exists.
        max_bytes: `PERAGO_MAX_WORKSPACE_BYTES`; None for no limit.
        root: The workspace root, whose other contents will be deleted some day; None: `workspace` has the disk alone.

    Raises:
        NoRoom: the disk is too full.
        LayoutRefused: there are too many bytes, or more than the complete disk has (retryable).
    """
    root, sizes = root or workspace, [placement.entry.size for placement in placed if placement.path is not None]
    if max_bytes is not None and sum(sizes) > max_bytes:
        raise LayoutRefused(
            f"The workspace ref holds {size(sum(sizes))} in {count(len(sizes), 'object')}, more than the "
            f"{size(max_bytes)} that PERAGO_MAX_WORKSPACE_BYTES allows; nothing was downloaded. Raise the limit, or "
            "narrow the task's prefix.",
            retryable=False,
        )
    space, directories = free_space(workspace), len(directories_to_create(placed, key_prefix))
    blocks = sum(-(-number // space.block) for number in sizes) + directories
    needed = FreeSpace(blocks * space.block + RESERVE, space.block, len(sizes) + directories)
    if (lacking := _lacking(needed, space)) is not None:
        raise _no_room(needed, space, lacking, workspace, root)


def directories_to_create(placements: Iterable[Placement], key_prefix: str) -> tuple[str, ...]:
    """Return every directory that the placed files and the directory markers need, relative, parents first."""
    needed: set[str] = set()
    for placement in placements:
        if is_reserved(placement.entry.key):
            continue
        for above in directories_above(placement.entry.key[len(key_prefix) :]):
            if above in needed:
                break
            needed.add(above)
    return tuple(sorted(needed))


def create_directories(workspace: Path, directories: Iterable[str]) -> None:
    """Create `directories`, parents first, below `workspace` without following a symlink. Existing ones are accepted.

    Raises:
        OSError: the disk refused, or something else has one of the names.
    """
    with Descent(workspace) as descent:
        for directory in directories:
            above, name = split(directory)
            try:
                os.mkdir(name, dir_fd=descent.enter(above))
            except FileExistsError:
                descent.enter(directory)


def _describe(problems: Sequence[KeyProblem]) -> str:
    named = listing([f"{quoted(problem.key)} {problem.problem}" for problem in problems])
    return (
        f"{count(len(problems), 'key')} of the workspace ref cannot be laid out as files; nothing was downloaded: "
        f"{named}. Rename or delete these objects in the repository, or narrow the task's prefix."
    )


def _no_room(
    needed: FreeSpace, space: FreeSpace, lacking: tuple[str, str], workspace: Path, root: Path
) -> LayoutRefused:
    """Find out whether the disk is too full for now, or too small."""
    held = occupied(root)
    too_large = _lacking(needed, _together(space, held))
    if too_large is not None and needed.size <= space.total:
        time.sleep(_RELEASE_SECONDS)
        too_large = _lacking(needed, _together(free_space(workspace), held))
    if too_large is None or (space.size < RESERVE and needed.size <= space.total):
        return NoRoom(
            f"The workspace ref needs {lacking[0]}, but the disk of {root} has {lacking[1]} left; nothing was "
            "downloaded. Free space, or point PERAGO_WORKSPACE_ROOT elsewhere.",
            is_passing=True,
        )
    text = (
        f"The workspace ref needs {too_large[0]}, more than the {too_large[1]} that the disk of {root} would have "
        "free without all other attempts and the cache; nothing was downloaded. Point PERAGO_WORKSPACE_ROOT at a "
        "larger disk, or narrow the task's prefix."
    )
    if needed.size > space.total:
        return LayoutRefused(text, retryable=True)
    return NoRoom(text, is_passing=False)


def _together(space: FreeSpace, held: FreeSpace) -> FreeSpace:
    """Return what would be free if `held`, which the attempts and the cache occupy, were deleted."""
    inodes = None if space.inodes is None else space.inodes + (held.inodes or 0)
    return FreeSpace(min(space.size + held.size, space.total), space.block, inodes)


def _lacking(needed: FreeSpace, space: FreeSpace) -> tuple[str, str] | None:
    """Return the needed and the free space in words, or None if `space` is enough."""
    if needed.size > space.size:
        return f"{size(needed.size)} on disk (a reserve of {size(RESERVE)} included)", size(space.size)
    if space.inodes is not None and (needed.inodes or 0) > space.inodes:
        return count(needed.inodes or 0, "inode"), f"{space.inodes:,}"
    return None
