"""Workers on versioned workspaces: what is published, by whom, and what a dead slot leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perago.attempt.events import FenceState
from perago.embedded.lakefs.hooks import HeadFence
from perago.worker.events import Ending, FenceNotEnforced, SlotDied, Usage

from .bench import RunningWorker, attempt_directories, make_plan, planned, running, wait_for
from .site import WRITES, Site


@pytest.fixture
def worker(site: Site, tmp_path: Path, frequent_beats: None) -> Iterator[RunningWorker]:
    with running(make_plan(tmp_path, planned(WRITES, store_factory=site.server.factory)), site.conductor) as worker:
        yield worker


def test_a_slot_publishes_what_the_function_wrote(site: Site, worker: RunningWorker) -> None:
    workflow = site.finish_one(site.start_on_head("writes"))
    assert workflow["status"] == "COMPLETED"
    assert site.tree()["out/a.csv"] == b"x\n1\n"
    reported = wait_for("the line about it", lambda: worker.ended(Ending.REPORTED))[0]
    assert reported.published_commit == site.lakefs.get_commit("data", "main").id
    assert reported.usage == Usage(objects=1, downloaded=4, uploaded=4)
    assert workflow["tasks"][0]["workerId"] == "test0001"
    assert not attempt_directories(worker.plan.workspace_root)


def test_a_forked_child_that_returns_as_well_does_not_touch_the_attempt(site: Site, worker: RunningWorker) -> None:
    workflow = site.finish_one(site.start_on_head("forks"))
    assert [(task["status"], task["outputData"]["result"]) for task in workflow["tasks"]] == [
        ("COMPLETED", {"text": "run 1"})
    ]
    assert site.tree()["out/a.csv"] == b"x\n1\n"


def test_logging_that_the_module_set_up_itself_is_seen_once_and_as_it_looks_there(
    site: Site, worker: RunningWorker
) -> None:
    task = site.finish_one(site.start_on_head("writes"))["tasks"][0]
    logs = wait_for("the task log", lambda: site.conductor.task_logs(task["taskId"]))
    assert [entry["log"] for entry in logs] == ["in the author's format: writing"]


def test_the_retry_of_a_crashed_attempt_runs_in_a_new_process_and_publishes(site: Site, worker: RunningWorker) -> None:
    workflow = site.finish_one(site.start_on_head("dies_once"))
    assert workflow["status"] == "COMPLETED"
    assert site.runs() == 2
    assert [task["status"] for task in workflow["tasks"]] == ["FAILED", "COMPLETED"]
    assert "SIGKILL" in workflow["tasks"][0]["reasonForIncompletion"]
    assert len(worker.saw(SlotDied)) == 1
    wait_for("all attempt directories to go", lambda: not attempt_directories(worker.plan.workspace_root))


def test_a_function_that_deletes_its_workspace_fails_and_publishes_nothing(site: Site, worker: RunningWorker) -> None:
    before = site.tree()
    workflow = site.finish_one(site.start_on_head("deletes_its_workspace"))
    assert workflow["status"] == "FAILED"
    assert site.tree() == before
    assert site.finish_one(site.start_on_head("writes"))["status"] == "COMPLETED"


def test_a_server_that_runs_no_hooks_is_warned_about_once(
    site: Site, worker: RunningWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeadFence, "refuse", lambda self, event: None)  # as with `actions.enabled: false`
    for number in range(2):
        site.lakefs.seed("data", "main", {"out/a.csv": f"{number}"})
        done = site.finish_one(site.start_on_head("writes"))
        assert done["status"] == "COMPLETED", done["tasks"]
    reported = wait_for("both reports", lambda: worker.ended(Ending.REPORTED)[1:] and worker.ended(Ending.REPORTED))
    assert [event.fence for event in reported] == [FenceState.NOT_ENFORCED] * 2
    assert worker.saw(FenceNotEnforced) == [FenceNotEnforced("data")]
