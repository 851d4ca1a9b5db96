"""Files for an upload through the port, and a complete download."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from perago.ports import Placement, Progress, Upload, WorkspaceStore, no_progress


def to_upload(
    path: Path,
    content: bytes,
    key: str | None = None,
    content_type: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Upload:
    """A file on disk as change detection reports it, by default under its own name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    checksum = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return Upload(key or path.name, path, len(content), checksum, content_type, metadata or {})


def files_in(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, hidden ones too."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


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
