"""Bringing trees of the past to this disk, refused whole before a byte of what is too much is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from perago.ports import ObjectEntry, Progress, WorkspaceStore, no_progress
from perago.replay.attempts import NotReplayable
from perago.workspace.errors import WorkspaceError
from perago.workspace.layout import check_room, create_directories, directories_to_create, plan_layout
from perago.workspace.text import count, size

Chosen = Callable[[str], bool]
"""Whether a path, relative to the workspace, is wanted."""


def everything(_: str) -> bool:
    """A `Chosen` that leaves nothing out."""
    return True


def bring(
    store: WorkspaceStore,
    repository: str,
    commit: str,
    prefix: str,
    directory: Path,
    *,
    chosen: Chosen = everything,
    max_bytes: int | None = None,
    workspace_limit: int | None = None,
    progress: Progress = no_progress,
) -> dict[str, Path]:
    """Download the chosen files of a commit into an empty directory; returns them by their paths.

    Args:
        store: the lakeFS.
        repository: where the commit is.
        commit: its full id.
        prefix: what the keys of the workspace begin with.
        directory: where the files go; it exists.
        chosen: which of them.
        max_bytes: what all of them together may hold; None for no limit.
        workspace_limit: the same, as `PERAGO_MAX_WORKSPACE_BYTES` says it of any attempt.
        progress: hears of files and bytes.

    Raises:
        NotReplayable: they are too large together, do not fit the disk, or have keys that cannot be files. Nothing was
            downloaded.
        ServiceError: lakeFS did not answer, or no longer has the commit or an object.
        OSError: the disk refused.
    """

    entries = store.list_objects(repository, commit, prefix)
    wanted = [entry for entry in entries if chosen(entry.key[len(prefix) :])]
    _check_size(wanted, max_bytes)
    try:
        placements = plan_layout(wanted, prefix, directory)
        check_room(placements, prefix, directory, max_bytes=workspace_limit)
    except WorkspaceError as error:
        raise NotReplayable(str(error)) from error
    create_directories(directory, directories_to_create(placements, prefix))
    store.download(repository, commit, directory, placements, progress)
    return {item.entry.key[len(prefix) :]: item.path for item in placements if item.path is not None}


def _check_size(entries: Sequence[ObjectEntry], max_bytes: int | None) -> None:
    total = sum(entry.size for entry in entries)
    if max_bytes is not None and total > max_bytes:
        raise NotReplayable(
            f"the files hold {size(total)} in {count(len(entries), 'object')}, more than {size(max_bytes)}; nothing "
            "was downloaded",
            "choose a part of them with --only GLOB, or allow more with --max-bytes",
        )
