"""A task whose guardrails behave as the workspace says."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import BaseModel

from perago import WorkspaceSpec, guardrail, task


class Params(BaseModel):
    what: str = ""
    marker: str = ""


@guardrail(seconds=0.3)
def brief(workspace: Path) -> str | None:
    print("looking at the workspace")
    if (workspace / "hang").exists():
        time.sleep(600)
    return None


@guardrail(seconds=600)
def patient(workspace: Path) -> str | None:
    if (workspace / "wait").exists():
        Path((workspace / "wait").read_text()).touch()
        time.sleep(600)
    return None


@task(name="worker.guarded", owner_email="tests@example.com", workspace=WorkspaceSpec(pre=[brief], post=[patient]))
def guarded(workspace: Path, params: Params) -> Params:
    (workspace / "out").write_text("x")
    return params
