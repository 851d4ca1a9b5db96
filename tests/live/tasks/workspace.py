"""A task with the whole repository as its workspace."""

from __future__ import annotations

from pathlib import Path

from perago import WorkspaceSpec, forbid_glob, require_file, task

from .acting import Done, Orders, act, controls, named


@task(
    name=named("workspace"),
    owner_email="live@example.com",
    workspace=WorkspaceSpec(pre=[require_file("raw/a.txt")], post=[forbid_glob("**/*.tmp")]),
    controls=controls(),
)
def work(workspace: Path, params: Orders) -> Done:
    """Obey."""
    return act(params, workspace)
