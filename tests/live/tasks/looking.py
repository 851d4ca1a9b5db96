"""A task that may not change its workspace."""

from __future__ import annotations

from pathlib import Path

from perago import WorkspaceSpec, task

from .acting import Done, Orders, act, controls, named


@task(
    name=named("looking"),
    owner_email="live@example.com",
    workspace=WorkspaceSpec(read_only=True),
    controls=controls(),
)
def look(workspace: Path, params: Orders) -> Done:
    """Obey."""
    return act(params, workspace)
