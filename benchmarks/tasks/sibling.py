"""A branch of a fork: it rewrites files of its own, and ends at the same moment as the others."""

from __future__ import annotations

import os
from multiprocessing.synchronize import Barrier
from pathlib import Path

from pydantic import BaseModel

from perago import WorkspaceSpec, task

SIZE = 4096
START: list[Barrier] = []
"""Where all siblings of a process tree wait for one another, at most once each."""


class Params(BaseModel):
    """What to change: paths below the workspace."""

    paths: list[str] = []


class Result(BaseModel):
    """What was changed."""

    changed: int


@task(name="benchmark.sibling", owner_email="benchmark@example.com", workspace=WorkspaceSpec(on_moved_head="rebase"))
def sibling(workspace: Path, params: Params) -> Result:
    for path in params.paths:
        (workspace / path).parent.mkdir(exist_ok=True)
        (workspace / path).write_bytes(os.urandom(SIZE))
    for barrier in START:
        barrier.wait(60)
    return Result(changed=len(params.paths))
