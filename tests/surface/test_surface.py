"""What users rely on stays as it is: names, signatures, options, exit codes, JSON documents, test ids, variables, logs,
metrics and commit metadata.

    WRITE_SURFACE=1 python -m pytest tests/surface

writes `public_surface.txt` again after an intended change, which needs a line in CHANGELOG.md. To enforce that, the
first line of the file has two checksums: of the other lines, and of the changelog that came with them.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from pathlib import Path

import pytest

from ..cli.conftest import Project
from ..cli.dev_command import ready
from .listing import everything, shape_of

FILE = Path(__file__).with_name("public_surface.txt")
CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"


def checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


HEADER = FILE.read_text(encoding="utf-8").splitlines()[0]
"""As it was before these tests wrote anything."""

TASK = """
from pathlib import Path
from pydantic import BaseModel
from perago import Example, TaskTerminalError, WorkspaceSpec, require_glob, task

class Params(BaseModel):
    rows: int = 1

class Result(BaseModel):
    total: int

@task(
    name="features.build",
    owner_email="data@example.com",
    workspace=WorkspaceSpec(pre=[require_glob("*.csv")]),
    examples=[Example(id="one", params={"rows": 1}, tree={"a.csv": "x"})],
)
def work(workspace: Path, params: Params) -> Result:
    if params.rows < 0:
        raise TaskTerminalError("below zero")
    (workspace / "b.csv").write_text("y")
    return Result(total=params.rows)
"""


def compare(kinds: tuple[str, ...], found: set[str]) -> None:
    """Compare the lines of these kinds with the file, or write them there."""
    lines = FILE.read_text(encoding="utf-8").splitlines()[1:]
    kept = [line for line in lines if line.split(" ", 1)[0] not in kinds]
    expected = sorted(line for line in lines if line.split(" ", 1)[0] in kinds)
    difference = [line for line in difflib.ndiff(expected, sorted(found)) if line[0] in "+-"]
    if os.environ.get("WRITE_SURFACE"):
        changelog = checksum(CHANGELOG.read_text(encoding="utf-8"))
        assert not (difference and HEADER.endswith(changelog)), (
            "write a line in CHANGELOG.md for this change of the surface first"
        )
        lines = sorted([*kept, *found])
        FILE.write_text("\n".join([header(lines, changelog), *lines]) + "\n", encoding="utf-8")
        return
    told = "\n".join(difference)
    assert not difference, f"the public surface has changed; see the docstring of this file:\n{told}"


def header(lines: list[str], changelog: str) -> str:
    return f"# lines {checksum(''.join(lines))} changelog {changelog}"


@pytest.mark.any_python
def test_names_options_tests_variables_logs_metrics_and_metadata() -> None:
    kinds = ("python", "cli", "exit", "plugin", "env", "log", "metric", "commit")
    compare(kinds, set(everything()))


@pytest.mark.any_python
def test_json_documents(project: Project) -> None:
    found = set[str]()
    project.module("features", TASK)
    sample = project.directory / "sample"
    sample.mkdir()
    (sample / "a.csv").write_text("x")
    with ready(project, "features", "--workspace", "sample") as dev:
        variables = dev.variables()

        def read(*arguments: str) -> None:
            ran = project.run(*arguments, "--json", **variables)
            found.update(f"json {arguments[0]} {line}" for line in shape_of(json.loads(ran.out)))

        def send(params: str) -> str:
            ran = project.run("send", "features", "--branch", "dev/main", "--params", params, "--follow", **variables)
            workflow = ran.err.splitlines()[0].removeprefix("started workflow ")
            return str(dev.get(f"/workflow/{workflow}")["tasks"][-1]["taskId"])

        failed, completed = send('{"rows": -1}'), send('{"rows": 2}')
        for task_id in (failed, completed):
            read("show", task_id)
            read("replay", task_id)
        read("backtest", "features", "--last", "2")
        read("log", "dev", "main")
        read("status", "features")
        read("list")
        read("doctor", "features")
        read("diff", "features")
        read("check", "features")
        read("config")
        read("cache")
        read("fence", "status", "dev", "main")
        read("gc", "dev")
        read("run", "features", "--workspace", "sample")
        project.module("broken", "raise RuntimeError('no')")
        read("check", "broken")
    compare(("json",), found)


def test_the_file_is_as_it_was_written_with_a_changelog_line() -> None:
    first, *lines = FILE.read_text(encoding="utf-8").splitlines()
    assert header(lines, first[-16:]) == first, "write it with WRITE_SURFACE=1"
