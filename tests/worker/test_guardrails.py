"""Guardrails of authors in a slot: their output, their time, and their end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perago.worker.events import Ending, SlotReplaced

from .bench import RunningWorker, make_plan, planned, running, wait_for
from .site import Site, opened


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path, retries=0, task="worker.guarded") as site:
        for branch, file in (("main", "a"), ("hanging", "hang"), ("waiting", "wait")):
            site.lakefs.seed("data", branch, {file: str(tmp_path / "marker")})
        yield site


@pytest.fixture
def worker(site: Site, tmp_path: Path, frequent_beats: None) -> Iterator[RunningWorker]:
    plan = make_plan(tmp_path, planned(f"{__package__}.tasks.guarded", store_factory=site.server.factory))
    with running(plan, site.conductor) as worker:
        yield worker


def finish(site: Site, workflow: str) -> dict[str, Any]:
    """The first task of the workflow once it is over."""
    task: dict[str, Any] = site.finish_one(workflow)["tasks"][0]
    return task


def test_a_guardrail_that_hangs_fails_its_attempt_and_its_slot_is_replaced(site: Site, worker: RunningWorker) -> None:
    failed = finish(site, site.start_on_head(branch="hanging"))
    assert failed["status"] == "FAILED"
    assert failed["reasonForIncompletion"].startswith("pre guardrail brief: did not end within 0.3 s (")
    wait_for("the new slot", lambda: worker.saw(SlotReplaced))
    assert finish(site, site.start_on_head(branch="main"))["status"] == "COMPLETED"


def test_what_a_guardrail_prints_is_in_the_log_of_the_task(site: Site, worker: RunningWorker) -> None:
    task_id = finish(site, site.start_on_head(branch="main"))["taskId"]
    logs = wait_for("the task log", lambda: site.conductor.task_logs(task_id))
    assert [entry["log"] for entry in logs] == ["looking at the workspace"]
    assert not worker.saw(SlotReplaced)


def test_a_cancelled_attempt_does_not_wait_for_its_guardrail(site: Site, worker: RunningWorker, tmp_path: Path) -> None:
    workflow = site.start_on_head(branch="waiting")
    site.conductor.decide(workflow)
    wait_for("the guardrail to run", (tmp_path / "marker").exists)
    site.conductor.terminate_workflow(workflow, "enough")
    wait_for("the end of the attempt", lambda: worker.ended(Ending.LOST))
    assert finish(site, site.start_on_head(branch="main"))["status"] == "COMPLETED"
