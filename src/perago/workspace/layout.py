"""Where the objects of a listing go on disk, decided for all of them before a byte is written
(docs/design/contract.md 7).

The directories are made here, once; the objects themselves are written by the store.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from perago.authoring.guardrails import Listing
from perago.ports import ObjectEntry, Placement
from perago.workspace.descent import Descent, split
from perago.workspace.disk import Disk, FreeSpace, free_space, occupied, probe_disk
from perago.workspace.errors import LayoutRefused, NoRoom
from perago.workspace.keys import KeyProblem, NameLimits, check_keys, is_reserved
from perago.workspace.text import count, listing, quoted, size

RESERVE = 64 * 1024 * 1024
"""Bytes that a download leaves free: a full disk stops more than one attempt. A worker takes no work with less."""
_RELEASE_SECONDS = 1
"""A disk releases the room of a deleted file a moment after its name is gone, as when another attempt just ended."""


class ListingBound:
    """Counts the objects of a listing, and the directories that they need, while the listing arrives."""

    def __init__(self, key_prefix: str, most: int) -> None:
        """`most`: `PERAGO_MAX_WORKSPACE_OBJECTS`."""
        self._key_prefix = key_prefix
        self._most = most
        self.objects = self.directories = 0
        self._last = ""
        """The directory of the last object."""

    def check(self, page: Sequence[ObjectEntry]) -> None:
        """Count the next objects, which are in the order of their keys.

        Raises:
            LayoutRefused: there are too many objects or directories.
        """
        self.objects += len(page)
        for entry in page:
            above = entry.key[len(self._key_prefix) :].rpartition("/")[0]
            if above != self._last:
                known, self._last = f"{self._last}/", above
                while above and not known.startswith(f"{above}/"):
                    self.directories += 1
                    above = above.rpartition("/")[0]
        for number, what in ((self.objects, "objects"), (self.directories, "directories")):
            if number > self._most:
                raise LayoutRefused(
                    f"The workspace ref has more {what} than the {self._most:,} that PERAGO_MAX_WORKSPACE_OBJECTS "
                    "allows; nothing was downloaded. Raise the limit, or narrow the task's prefix.",
                    retryable=False,
                )


def plan_layout(
    entries: Sequence[ObjectEntry],
    key_prefix: str,
    workspace: Path,
    *,
    disk: Disk | None = None,
) -> list[Placement]:
    """A placement for every entry; directory markers and `_lakefs_actions/` are placed nowhere.

    Args:
        entries: The listing of the commit.
        key_prefix: What the keys of the workspace begin with.
        workspace: The directory that becomes the workspace; it exists.
        disk: How the disk treats names; None: found out at `workspace`.

    Raises:
        LayoutRefused: keys that cannot be files; all are named.
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
    """What a scan of the workspace finds once all is downloaded."""
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
    """Check that the files may be as large as they are, and have room.

    Args:
        placed: All that `plan_layout` gave.
        key_prefix: What the keys of the workspace begin with.
        workspace: The directory that becomes the workspace; it exists.
        max_bytes: `PERAGO_MAX_WORKSPACE_BYTES`; None for no limit.
        root: The workspace root, whose other contents are not there for ever; None: `workspace` has the disk alone.

    Raises:
        NoRoom: the disk is too full.
        LayoutRefused: too many bytes; or more than the whole disk has (retryable).
    """
    _check_size(placed, max_bytes)
    _check_free(placed, key_prefix, workspace, root or workspace)


def directories_to_create(placements: Iterable[Placement], key_prefix: str) -> tuple[str, ...]:
    """Every directory that the placed files and the directory markers need, relative, parents first."""
    needed: set[str] = set()
    for placement in placements:
        if is_reserved(placement.entry.key):
            continue
        above = split(placement.entry.key[len(key_prefix) :])[0]
        while above and above not in needed:
            needed.add(above)
            above = split(above)[0]
    return tuple(sorted(needed))


def create_directories(workspace: Path, directories: Iterable[str]) -> None:
    """Make `directories`, parents first, below `workspace` without following a symlink; existing ones are fine.

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


def _check_size(placed: Sequence[Placement], max_bytes: int | None) -> None:
    sizes = [placement.entry.size for placement in placed if placement.path is not None]
    if max_bytes is not None and sum(sizes) > max_bytes:
        raise LayoutRefused(
            f"The workspace ref holds {size(sum(sizes))} in {count(len(sizes), 'object')}, more than the "
            f"{size(max_bytes)} that PERAGO_MAX_WORKSPACE_BYTES allows; nothing was downloaded. Raise the limit, or "
            "narrow the task's prefix.",
            retryable=False,
        )


def _check_free(placed: Sequence[Placement], key_prefix: str, workspace: Path, root: Path) -> None:
    space = free_space(workspace)
    sizes = [placement.entry.size for placement in placed if placement.path is not None]
    directories = len(directories_to_create(placed, key_prefix))
    blocks = sum(-(-number // space.block) for number in sizes) + directories
    needed = FreeSpace(blocks * space.block + RESERVE, space.block, len(sizes) + directories)
    lacking = _lacking(needed, space)
    if lacking is None:
        return
    held = occupied(root)
    too_large = _lacking(needed, _together(space, held))
    if too_large is not None and needed.size <= space.total:
        time.sleep(_RELEASE_SECONDS)
        too_large = _lacking(needed, _together(free_space(workspace), held))
    if too_large is None or (space.size < RESERVE and needed.size <= space.total):
        raise NoRoom(
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
        raise LayoutRefused(text, retryable=True)
    raise NoRoom(text, is_passing=False)


def _together(space: FreeSpace, held: FreeSpace) -> FreeSpace:
    """What would be free if `held`, which the attempts and the cache occupy, were deleted."""
    inodes = None if space.inodes is None else space.inodes + (held.inodes or 0)
    return FreeSpace(min(space.size + held.size, space.total), space.block, inodes)


def _lacking(needed: FreeSpace, space: FreeSpace) -> tuple[str, str] | None:
    """Return what is needed and what `space` has of it, in words; None if `space` is enough."""
    if needed.size > space.size:
        return f"{size(needed.size)} on disk (a reserve of {size(RESERVE)} included)", size(space.size)
    if space.inodes is not None and (needed.inodes or 0) > space.inodes:
        return count(needed.inodes or 0, "inode"), f"{space.inodes:,}"
    return None
