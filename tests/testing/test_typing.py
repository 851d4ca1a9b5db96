"""A user's test file passes a strict type checker, and an editor knows what fixtures give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TASK = """
from pathlib import Path
from pydantic import BaseModel
from perago import WorkspaceSpec, task

class Params(BaseModel):
    n: int = 1

class Result(BaseModel):
    n: int

@task(name="typed", owner_email="data@example.com", workspace=WorkspaceSpec())
def work(workspace: Path, params: Params) -> Result:
    return Result(n=params.n)
"""

TESTS = """
from typing import assert_type
from pathlib import Path

from perago.testing import (
    Conductor,
    EmbeddedServices,
    InMemoryLakeFS,
    Outcome,
    PublishedTree,
    Snapshots,
    TaskRunner,
    TaskStatus,
    TreeBuilder,
    VirtualClock,
)
from task import Params, work


def test_run(perago_run: TaskRunner) -> None:
    outcome = perago_run(work, Params(n=2), tree={"a.txt": "x", "b.bin": b"", "c": None})
    assert_type(outcome, Outcome)
    assert_type(outcome.assert_completed(), Outcome)
    assert_type(outcome.status, TaskStatus | None)
    assert_type(outcome.tree, PublishedTree)
    assert_type(outcome.tree["a.txt"], bytes)
    assert_type(outcome.tree.text("a.txt"), str)
    assert_type(outcome.changed_files, tuple[str, ...])
    assert_type(outcome.violations, tuple[str, ...])
    assert_type(perago_run.again(), Outcome)
    assert outcome.tree == {"a.txt": "x"}
    race = perago_run.race((work, Params()), work, tree={})
    assert_type(race.tree, PublishedTree)


def test_services(perago_conductor: Conductor, perago_lakefs: InMemoryLakeFS, perago_clock: VirtualClock) -> None:
    assert_type(perago_conductor.drain(), tuple[Outcome, ...])
    assert_type(perago_lakefs.seed("data", "main", {"a": "x"}).id, str)
    assert_type(perago_clock.now(), float)


def test_trees(perago_tree: TreeBuilder, perago_server: EmbeddedServices) -> None:
    assert_type(perago_tree({"a": "x"}, work, "cases/a.zip"), Path)
    assert_type(perago_server.environment()["LAKECTL_SERVER_ENDPOINT_URL"], str)


def test_snapshots(perago_run: TaskRunner, perago_snapshot: Snapshots) -> None:
    perago_snapshot(work)
    perago_snapshot.tree(perago_run(work, tree={"a": "x"}), exclude=["**/*.log"])
    perago_snapshot.tree(perago_run.race(work, work, tree={}), "race")
    perago_snapshot.tree({"a": "x", "b": b"", "c": None}, "mapping")


def test_wrong(perago_run: TaskRunner) -> None:
    perago_run(work, ["no params"])  # wrong
    perago_run(work).changed  # wrong
"""


@pytest.mark.any_python
def test_a_test_file_of_a_user_is_checked_strictly(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "test_user.py").write_text(TESTS)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", str(tmp_path), "."]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    errors = [line for line in done.stdout.splitlines() if " error: " in line]
    wrong = [number for number, line in enumerate(TESTS.splitlines(), 1) if line.endswith("# wrong")]
    assert [line.split(":")[:2] for line in errors] == [["test_user.py", str(number)] for number in wrong], done.stdout
