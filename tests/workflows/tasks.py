"""Tasks for workflows: each leaves a file named after what it was given, and says which files it found."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from perago import RetryPolicy, TaskControls, WorkspaceSpec, task

OWNER = "data@example.com"


class Named(BaseModel, extra="forbid"):
    name: str
    weights: list[float] = Field(default=[], alias="theWeights")


class Found(BaseModel):
    files: list[str]
    weight: float = Field(serialization_alias="theWeight")
    kind: Literal["small", "large"]
    is_done: bool
    note: str | None = None


def _write(workspace: Path, params: Named) -> Found:
    files = sorted(path.name for path in workspace.iterdir())
    (workspace / params.name).write_text("".join(f"{name}\n" for name in files))
    kind: Literal["small", "large"] = "large" if len(files) > 2 else "small"
    return Found(files=files, weight=len(files) + sum(params.weights), kind=kind, is_done=len(files) > 3)


@task(name="flow.write", owner_email=OWNER, workspace=WorkspaceSpec(on_moved_head="rebase"))
def write(workspace: Path, params: Named) -> Found:
    return _write(workspace, params)


@task(name="flow.alone", owner_email=OWNER, workspace=WorkspaceSpec())
def alone(workspace: Path, params: Named) -> Found:
    return _write(workspace, params)


@task(name="flow.read", owner_email=OWNER, workspace=WorkspaceSpec(read_only=True))
def read(workspace: Path, params: Named) -> Found:
    files = sorted(path.name for path in workspace.iterdir())
    return Found(files=files, weight=len(files), kind="small", is_done=True)


@task(name="flow.touch", owner_email=OWNER, workspace=WorkspaceSpec(on_moved_head="rebase"))
def touch(workspace: Path, params: Named) -> Found:
    files = read(workspace, params)
    (workspace / params.name).touch()  # the same content each time, so that two of them do not conflict
    return files


@task(
    name="flow.fail",
    owner_email=OWNER,
    workspace=WorkspaceSpec(on_moved_head="rebase"),
    controls=TaskControls(retry=RetryPolicy(count=0)),
)
def fail(workspace: Path, params: Named) -> Found:
    raise OSError(f"no {params.name}")


@task(
    name="flow.write_once",
    owner_email=OWNER,
    workspace=WorkspaceSpec(on_moved_head="rebase"),
    controls=TaskControls(retry=RetryPolicy(count=0)),
)
def write_once(workspace: Path, params: Named) -> Found:
    if (workspace / params.name).exists():
        raise OSError(f"{params.name} exists")
    return _write(workspace, params)


class Rounds(BaseModel, extra="forbid"):
    rounds: int


class Round(BaseModel):
    rounds: int
    is_done: bool


@task(name="flow.count", owner_email=OWNER, workspace=WorkspaceSpec())
def count(workspace: Path, params: Rounds) -> Round:
    round_number = sum(path.name.startswith("round") for path in workspace.iterdir()) + 1
    (workspace / f"round{round_number}").touch()
    return Round(rounds=round_number, is_done=round_number >= params.rounds)


class Words(BaseModel, extra="forbid"):
    text: str


class Split(BaseModel):
    words: list[str]


@task(name="flow.split", owner_email=OWNER)
def split(params: Words) -> Split:
    return Split(words=params.text.split())
