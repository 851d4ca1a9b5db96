"""A task for rounds of chaos: whole repositories, no guardrails."""

from __future__ import annotations

from pathlib import Path

from perago import WorkspaceSpec, task

from .acting import Done, Orders, act, controls, named


@task(name=named("chaotic"), owner_email="live@example.com", workspace=WorkspaceSpec(), controls=controls())
def work(workspace: Path, params: Orders) -> Done:
    """Obey."""
    return act(params, workspace)
