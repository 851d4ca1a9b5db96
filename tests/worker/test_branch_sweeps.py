"""Staging branches that killed attempts left are removed on the side, in the repositories that a worker works in."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from perago.driver import Limits
from perago.ports import Delivery
from perago.settings import take_from_environment
from perago.worker import maintenance
from perago.worker.events import BranchesSwept, BranchSweepFailed, Ending
from perago.worker.maintenance import repository_of, sweep_branches

from .bench import make_plan, running, wait_for
from .small_queue import SmallQueue

REPORT = """
import json, sys, pathlib
names = sys.argv[sys.argv.index("--") + 1 :]
asked = pathlib.Path({asked!r})
unfinished = asked.with_suffix(".new")
unfinished.write_text(" ".join(names))
unfinished.replace(asked)
found = [("removed", "old"), ("kept", "young")]
branch = {{"kind": "branch", "reason": ""}}
leftovers = [{{**branch, "repository": n, "branch": b, "fate": f}} for n in names for f, b in found]
directory = {{"kind": "directory", "path": "x", "bytes": 1, "fate": "removed", "reason": ""}}
print(json.dumps({{"leftovers": [*leftovers, directory]}}))
"""
BROKEN = "import sys; sys.stderr.write('error: lakeFS does not answer\\n  fix: wait\\n'); sys.exit(5)"
ENDLESS = "import os, pathlib, time; pathlib.Path({asked!r}).write_text(str(os.getpid())); time.sleep(600)"


def sweeper(tmp_path: Path, code: str) -> tuple[tuple[str, ...], Path]:
    """A command in the place of `perago gc`, and the file in which it says that it runs."""
    asked = tmp_path / "asked"
    return (sys.executable, "-c", code.format(asked=str(asked)), "--"), asked


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "SWEEP_INTERVAL", 0.05)


def test_the_repositories_of_deliveries_are_swept(tmp_path: Path, queue: SmallQueue) -> None:
    command, asked = sweeper(tmp_path, REPORT)
    with running(make_plan(tmp_path, branch_sweep=command), queue) as worker:
        for name in ("my-data", "other", "my-data", "--older-than=0s", "../x"):
            queue.put(what="returns", workspace={"repository": name, "branch": "main", "ref": "0" * 64})
        wait_for("the attempts", lambda: len(worker.ended(Ending.REPORTED)) == 5)
        both = ("my-data/old", "other/old")
        wait_for("a sweep of both", lambda: any(event.branches == both for event in worker.saw(BranchesSwept)))
        assert not worker.saw(BranchSweepFailed)
    assert asked.read_text() == "my-data other"


def test_nothing_is_swept_before_there_was_work_in_a_repository(tmp_path: Path, queue: SmallQueue) -> None:
    command, asked = sweeper(tmp_path, REPORT)
    with running(make_plan(tmp_path, branch_sweep=command), queue) as worker:
        queue.put(what="returns")
        wait_for("the attempt", lambda: worker.ended(Ending.REPORTED))
        queue.put(what="returns")
        wait_for("another one", lambda: len(worker.ended(Ending.REPORTED)) == 2)
    assert not asked.exists()


def test_a_sweep_that_fails_is_noted_and_tried_again(tmp_path: Path, queue: SmallQueue) -> None:
    command, _ = sweeper(tmp_path, BROKEN)
    with running(make_plan(tmp_path, branch_sweep=command), queue) as worker:
        queue.put(what="returns", workspace={"repository": "my-data"})
        wait_for("two tries", lambda: len(worker.saw(BranchSweepFailed)) >= 2)
    assert worker.saw(BranchSweepFailed)[0] == BranchSweepFailed(("my-data",), "error: lakeFS does not answer")


def test_a_sweep_that_takes_too_long_is_given_up(
    tmp_path: Path, queue: SmallQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "BRANCH_SWEEP_LIMIT", 0.5)
    command, _ = sweeper(tmp_path, ENDLESS)
    with running(make_plan(tmp_path, branch_sweep=command), queue) as worker:
        queue.put(what="returns", workspace={"repository": "my-data"})
        wait_for("the end of patience", lambda: worker.saw(BranchSweepFailed))


def test_a_sweep_ends_with_its_worker(tmp_path: Path, queue: SmallQueue) -> None:
    command, asked = sweeper(tmp_path, ENDLESS)
    with running(make_plan(tmp_path, branch_sweep=command), queue):
        queue.put(what="returns", workspace={"repository": "my-data"})
        pid = int(wait_for("the sweep", lambda: asked.read_text() if asked.exists() else None))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"workspace": None},
        {"workspace": "my-data"},
        {"workspace": {"repository": 7}},
        {"workspace": {"repository": "A"}},
    ],
)
def test_an_input_that_names_no_repository_is_no_reason_to_look(value: dict[str, Any]) -> None:
    assert repository_of(Delivery("id", 1, 1, "t", "w", "step", 0, 0, None, value), Limits()) is None


def test_no_sweep_looks_into_a_repository_that_inputs_may_not_name() -> None:
    limits = Limits(allowed_workspaces=("my-data/main",))
    for branch, expected in (("main", "my-data"), ("other", None)):
        block = {"workspace": {"repository": "my-data", "branch": branch}}
        assert repository_of(Delivery("id", 1, 1, "t", "w", "step", 0, 0, None, block), limits) == expected


def test_the_process_that_sweeps_has_the_credentials_that_others_do_not_inherit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("perago.settings.sources._taken", {})
    monkeypatch.setenv("LAKECTL_TAKEN", "my-data")
    take_from_environment(["LAKECTL_TAKEN"])
    assert "LAKECTL_TAKEN" not in os.environ
    found = "{'kind': 'branch', 'fate': 'removed', 'repository': os.environ['LAKECTL_TAKEN'], 'branch': 'b'}"
    command = (sys.executable, "-c", f"import json, os; print(json.dumps({{'leftovers': [{found}]}}))")
    assert asyncio.run(sweep_branches(command)) == (("my-data/b",), "")
