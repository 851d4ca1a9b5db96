"""Workers on versioned workspaces: publications, leftovers of a dead slot, and guardrails of authors."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perago.attempt.events import FenceState
from perago.embedded.lakefs.values import HeadFence
from perago.worker.events import Ending, FenceNotEnforced, SlotDied, SlotReplaced

from .bench import RunningWorker, attempt_directories, make_plan, planned, running, wait_for
from .site import WRITES, Site, opened


@pytest.fixture
def worker(site: Site, tmp_path: Path, frequent_beats: None) -> Iterator[RunningWorker]:
    with running(make_plan(tmp_path, planned(WRITES, store_factory=site.server.factory)), site.conductor) as worker:
        yield worker


def test_a_slot_publishes_the_files_of_the_function(site: Site, worker: RunningWorker) -> None:
    workflow = site.finish_one(site.start_on_head("writes"))
    assert workflow["status"] == "COMPLETED"
    assert site.tree()["out/a.csv"] == b"x\n1\n"
    reported = wait_for("the line about it", lambda: worker.ended(Ending.REPORTED))[0]
    assert reported.published_commit == site.lakefs.get_commit("data", "main").id
    usage = reported.usage
    assert (usage.objects, usage.downloaded, usage.uploaded, usage.changed) == (1, 4, 4, 1)
    assert workflow["tasks"][0]["workerId"].startswith(f"test0001@{socket.gethostname()}:")
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


@pytest.fixture
def guarded_site(tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path, retries=0, task="worker.guarded") as site:
        for branch, file in (("main", "a"), ("hanging", "hang"), ("waiting", "wait")):
            site.lakefs.seed("data", branch, {file: str(tmp_path / "marker")})
        yield site


@pytest.fixture
def guarded_worker(guarded_site: Site, tmp_path: Path, frequent_beats: None) -> Iterator[RunningWorker]:
    plan = make_plan(tmp_path, planned(f"{__package__}.tasks.guarded", store_factory=guarded_site.server.factory))
    with running(plan, guarded_site.conductor) as worker:
        yield worker


def finish(site: Site, workflow: str) -> dict[str, Any]:
    """The first task of the workflow once it is over."""
    task: dict[str, Any] = site.finish_one(workflow)["tasks"][0]
    return task


def test_a_guardrail_that_hangs_fails_its_attempt_and_its_slot_is_replaced(
    guarded_site: Site, guarded_worker: RunningWorker
) -> None:
    failed = finish(guarded_site, guarded_site.start_on_head(branch="hanging"))
    assert failed["status"] == "FAILED"
    assert failed["reasonForIncompletion"].startswith("pre guardrail brief: did not end within 0.3 s (")
    wait_for("the new slot", lambda: guarded_worker.saw(SlotReplaced))
    assert finish(guarded_site, guarded_site.start_on_head(branch="main"))["status"] == "COMPLETED"


def test_output_of_a_guardrail_is_in_the_log_of_the_task(guarded_site: Site, guarded_worker: RunningWorker) -> None:
    task_id = finish(guarded_site, guarded_site.start_on_head(branch="main"))["taskId"]
    logs = wait_for("the task log", lambda: guarded_site.conductor.task_logs(task_id))
    assert [entry["log"] for entry in logs] == ["looking at the workspace"]
    assert not guarded_worker.saw(SlotReplaced)


def test_a_cancelled_attempt_does_not_wait_for_its_guardrail(
    guarded_site: Site, guarded_worker: RunningWorker, tmp_path: Path
) -> None:
    workflow = guarded_site.start_on_head(branch="waiting")
    guarded_site.conductor.decide(workflow)
    wait_for("the guardrail to run", (tmp_path / "marker").exists)
    guarded_site.conductor.terminate_workflow(workflow, "enough")
    wait_for("the end of the attempt", lambda: guarded_worker.ended(Ending.LOST))
    assert finish(guarded_site, guarded_site.start_on_head(branch="main"))["status"] == "COMPLETED"
