"""Tasks that the tests of the runner run."""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import BaseModel

from perago import (
    Metric,
    TaskControls,
    TaskFailed,
    TimeoutPolicy,
    WorkspaceSpec,
    current,
    forbid_glob,
    require_glob,
    task,
)


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


@task(name="runner.count", owner_email="data@example.com", metrics=[Metric(name="calls", kind="counter")])
def count(params: Params) -> Result:
    CALLS.append("count")
    current().count("call" if params.suffix == "wrong" else "calls")
    if len(CALLS) <= params.failures:
        raise TaskFailed("not yet")
    return Result(calls=len(CALLS))


@task(
    name="runner.poll",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(),
    controls=TaskControls(timeout=TimeoutPolicy(policy="RETRY", seconds=300)),
)
def poll(workspace: Path, params: Params) -> Result:
    """Waits for a slow service, and writes on the way."""
    CALLS.append("begun")
    try:
        for done in range(10):
            current().progress(done, 10)
            time.sleep(20)
            (workspace / f"{done}.txt").write_text("x")
            lookup()
    except Exception:
        CALLS.append("taken for an error")
        raise
    finally:
        if params.suffix == "lingers":
            time.sleep(45)
        CALLS.append(f"cleaned up, cancelled={current().cancelled}")
    return Result(calls=len(CALLS))


def lookup() -> None:
    """What a test replaces."""
