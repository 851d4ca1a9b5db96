"""A whole download on the port: the listing, where each object goes, and the bytes."""

from __future__ import annotations

from pathlib import Path

from perago.ports import Placement, Progress, WorkspaceStore, no_progress


def download(
    store: WorkspaceStore,
    repository: str,
    commit: str,
    workspace: Path,
    prefix: str = "",
    on_progress: Progress = no_progress,
) -> list[Placement]:
    """Bring everything below `prefix` into `workspace`, under the names that the keys have."""
    entries = store.list_objects(repository, commit, prefix)
    placements = [Placement(entry, workspace / entry.key.removeprefix(prefix)) for entry in entries]
    store.download(repository, commit, workspace, placements, on_progress)
    return placements
