"""Staging branches that killed attempts left are removed on the side, in the repositories that a worker works in."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from perago.driver import Limits
from perago.settings import take_from_environment
from perago.worker import host
from perago.worker.events import BranchesSwept, BranchSweepFailed, Ending
from perago.worker.host import repository_of, sweep_branches
from tests.deliveries import make_delivery

from .bench import make_plan, outcome, running, wait_for
from .site import Site
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
BROKEN = """
import sys
sys.exit("error: lakeFS does not answer\\n  fix: wait\\nerror: nor does Conductor")
"""
ENDLESS = "import os, pathlib, time; pathlib.Path({asked!r}).write_text(str(os.getpid())); time.sleep(600)"


def sweeper(tmp_path: Path, code: str) -> tuple[tuple[str, ...], Path]:
    """A command in the place of `perago gc`, and the file in which it says that it runs."""
    asked = tmp_path / "asked"
    return (sys.executable, "-c", code.format(asked=str(asked)), "--"), asked


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "SWEEP_INTERVAL", 0.05)


def test_the_repositories_that_attempts_have_read_are_swept(tmp_path: Path, site: Site) -> None:
    """lakeFS has no repository `no-such`, so only its attempt hears of it."""
    command, asked = sweeper(tmp_path, REPORT)
    site.lakefs.seed("my-data", "main", {"raw/a.csv": "1"})
    with running(site.plan("test", branch_sweep=command), site.conductor) as worker:
        names = ("--older-than=0s", "../x", "no-such")
        refused = [site.start_on(name, "main", "0" * 64) for name in names]
        site.finish([*site.start(2), *site.start(repository="my-data"), *refused])
        wait_for("all reports", lambda: len(worker.ended(Ending.REPORTED)) == 6)
        both = ("data/old", "my-data/old")
        wait_for("a sweep of both", lambda: any(event.branches == both for event in worker.saw(BranchesSwept)))
        assert not worker.saw(BranchSweepFailed)
    assert asked.read_text() == "data my-data"


def test_nothing_is_swept_before_an_attempt_has_read_a_repository(tmp_path: Path, queue: SmallQueue) -> None:
    command, asked = sweeper(tmp_path, REPORT)
    with running(make_plan(tmp_path, branch_sweep=command), queue):
        for _ in range(2):
            task_id = queue.put(what="returns", workspace={"repository": "my-data", "branch": "main", "ref": "0" * 64})
            outcome(queue, task_id)
    assert not asked.exists()


def test_the_repositories_that_were_used_last_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "MOST_REPOSITORIES", 3)
    known: dict[str, None] = {}
    for name in "abcabda":
        host.remember(known, name)
    assert list(known) == ["b", "d", "a"]


def test_a_sweep_that_fails_is_noted_and_tried_again(tmp_path: Path, site: Site) -> None:
    command, _ = sweeper(tmp_path, BROKEN)
    with running(site.plan("test", branch_sweep=command), site.conductor) as worker:
        site.finish(site.start())
        wait_for("two tries", lambda: len(worker.saw(BranchSweepFailed)) >= 2)
    both = "error: lakeFS does not answer; error: nor does Conductor"
    assert worker.saw(BranchSweepFailed)[0] == BranchSweepFailed(("data",), both)


def test_a_sweep_that_takes_too_long_is_given_up(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "BRANCH_SWEEP_LIMIT", 0.5)
    command, _ = sweeper(tmp_path, ENDLESS)
    with running(site.plan("test", branch_sweep=command), site.conductor) as worker:
        site.finish(site.start())
        wait_for("the end of patience", lambda: worker.saw(BranchSweepFailed))


def test_a_sweep_ends_with_its_worker(tmp_path: Path, site: Site) -> None:
    command, asked = sweeper(tmp_path, ENDLESS)
    with running(site.plan("test", branch_sweep=command), site.conductor):
        site.finish(site.start())
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
    assert (
        repository_of(
            make_delivery(input=value),
            Limits(),
        )
        is None
    )


def test_no_sweep_looks_into_a_repository_that_inputs_may_not_name() -> None:
    limits = Limits(allowed_workspaces=("my-data/main",))
    for branch, expected in (("main", "my-data"), ("other", None)):
        block = {"workspace": {"repository": "my-data", "branch": branch}}
        assert (
            repository_of(
                make_delivery(input=block),
                limits,
            )
            == expected
        )


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
