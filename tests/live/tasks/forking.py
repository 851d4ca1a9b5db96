"""A task for the branches of a fork, which all publish to one branch."""

from __future__ import annotations

from pathlib import Path

from perago import WorkspaceSpec, task

from .acting import Done, Orders, act, controls, named


@task(
    name=named("forking"),
    owner_email="live@example.com",
    workspace=WorkspaceSpec(on_moved_head="rebase"),
    controls=controls(),
)
def work(workspace: Path, params: Orders) -> Done:
    """Obey."""
    return act(params, workspace)
