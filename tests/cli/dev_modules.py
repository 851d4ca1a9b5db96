"""Task modules that the tests of `perago dev` run."""

from __future__ import annotations

from pathlib import Path

from .conftest import Project

FEATURES = """
from pathlib import Path
from pydantic import BaseModel, Field
from perago import WorkspaceSpec, require_glob, task
import shared

class Params(BaseModel):
    rows: int = Field(ge=3)
    who: str

class Result(BaseModel):
    text: str

@task(
    name="features.build",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(pre=[require_glob("raw/*.csv")], post=[require_glob("out/*.txt")]),
)
def work(workspace: Path, params: Params) -> Result:
    (workspace / "out").mkdir(exist_ok=True)
    (workspace / "out" / "a.txt").write_text(shared.TEXT)
    return Result(text=shared.TEXT)
"""

PLAIN = """
import time
from pathlib import Path
from pydantic import BaseModel
from perago import Example, RetryPolicy, TaskControls, task

class Params(BaseModel):
    rows: int
    gate: str | None = None

class Result(BaseModel):
    total: int

@task(
    name="plain.work",
    owner_email="data@example.com",
    controls=TaskControls(retry=RetryPolicy(count=0)),
    examples=[Example(id="four", params={"rows": 4, "gate": GATE})],
)
def work(params: Params) -> Result:
    if params.gate:
        Path(params.gate + ".in").touch()
        while not Path(params.gate).exists():
            time.sleep(0.02)
    return Result(total=params.rows)
"""


def write_plain(project: Project, gate: Path | None = None) -> None:
    project.module("plain", PLAIN.replace("GATE", repr(None if gate is None else str(gate))))


STUBBORN = """
import time
from pathlib import Path
from pydantic import BaseModel
from perago import RetryPolicy, TaskControls, task

class Params(BaseModel):
    rows: int = 1

@task(name="plain.work", owner_email="data@example.com", controls=TaskControls(retry=RetryPolicy(count=0)))
def work(params: Params) -> Params:
    Path("{gate}.in").touch()
    try:
        while True:
            time.sleep(0.05)
    finally:
        Path("{gate}.canceled").touch()
        while not Path("{gate}").exists():
            time.sleep(0.05)
"""

TALKING = """
import time
from pathlib import Path
from pydantic import BaseModel
from perago import RetryPolicy, TaskControls, current, task

class Params(BaseModel):
    rows: int = 1

@task(name="plain.work", owner_email="data@example.com", controls=TaskControls(retry=RetryPolicy(count=0)))
def work(params: Params) -> Params:
    print("printed")
    current().log("logged")
    current().progress(1, 3)
    while not Path("{gate}").exists():
        time.sleep(0.05)
    raise ValueError("the gate was opened")
"""
