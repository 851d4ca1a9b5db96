"""A task that sees a part of the repository."""

from __future__ import annotations

from pathlib import Path

from perago import WorkspaceSpec, task

from .acting import Done, Orders, act, controls, named


@task(
    name=named("prefixed"),
    owner_email="live@example.com",
    workspace=WorkspaceSpec(prefix="inner/part"),
    controls=controls(),
)
def work(workspace: Path, params: Orders) -> Done:
    """Obey."""
    return act(params, workspace)
