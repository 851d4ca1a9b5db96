"""A workspace task that rewrites files."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, Field

from perago import WorkspaceSpec, require_glob, task


class Params(BaseModel):
    """Paths below the workspace."""

    paths: list[str] = Field(default_factory=list)


class Result(BaseModel):
    """The number of rewritten files."""

    changed: int


@task(
    name="benchmark.edit",
    description="Rewrites files with new bytes of the same length.",
    owner_email="benchmark@example.com",
    workspace=WorkspaceSpec(pre=[require_glob("**/*", min_count=1)], post=[require_glob("**/*", min_count=1)]),
)
def edit(workspace: Path, params: Params) -> Result:
    for path in params.paths:
        rewrite(workspace / path)
    return Result(changed=len(params.paths))


def rewrite(path: Path, block: int = 2**20) -> None:
    """Write new bytes of the old length, block by block."""
    remaining = path.stat().st_size
    with path.open("wb") as file:
        while remaining > 0:
            file.write(os.urandom(min(block, remaining)))
            remaining -= block
