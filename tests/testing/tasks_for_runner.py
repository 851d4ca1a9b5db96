"""Tasks that the tests of the runner run."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from perago import TaskFailed, WorkspaceSpec, current, forbid_glob, require_glob, task


class Params(BaseModel):
    failures: int = 0
    suffix: str = "csv"


class Result(BaseModel):
    calls: int


CALLS: list[str] = []
"""One entry for each call in the running test."""


@task(
    name="runner.copy",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(prefix="data", pre=[require_glob("raw/*.csv")], post=[forbid_glob("**/*.tmp")]),
)
def copy(workspace: Path, params: Params) -> Result:
    CALLS.append("copy")
    current().log(f"call {len(CALLS)}")
    if len(CALLS) <= params.failures:
        raise TaskFailed("not yet")
    (workspace / f"copy.{params.suffix}").write_bytes((workspace / "raw" / "a.csv").read_bytes())
    (workspace / "raw" / "b.csv").unlink(missing_ok=True)
    return Result(calls=len(CALLS))


@task(name="runner.count", owner_email="data@example.com")
def count(params: Params) -> Result:
    CALLS.append("count")
    if len(CALLS) <= params.failures:
        raise TaskFailed("not yet")
    return Result(calls=len(CALLS))
