"""Guardrails of authors in a slot: their output, their time, and their end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perago.worker.events import Ending, SlotReplaced

from .bench import RunningWorker, make_plan, planned, running, wait_for
from .site import Site, opened


@dataclass
class Room:
    """Both services in memory, and a worker on them."""

    site: Site
    worker: RunningWorker

    def start(self, branch: str) -> str:
        ref = self.site.lakefs.get_commit("data", branch).id
        return self.site.start_on("data", branch, ref)

    def finish(self, workflow_id: str) -> dict[str, Any]:
        """The first task of the workflow once it is over."""
        task: dict[str, Any] = self.site.finish([workflow_id])[0]["tasks"][0]
        return task


@pytest.fixture
def room(tmp_path: Path, frequent_beats: None) -> Iterator[Room]:
    with opened(tmp_path, retries=0, task="worker.guarded") as site:
        for branch, file in (("main", "a"), ("hanging", "hang"), ("waiting", "wait")):
            site.lakefs.seed("data", branch, {file: str(tmp_path / "marker")})
        plan = make_plan(tmp_path, planned(f"{__package__}.tasks.guarded", store_factory=site.server.factory))
        with running(plan, site.conductor) as worker:
            yield Room(site, worker)


def test_a_guardrail_that_hangs_fails_its_attempt_and_its_slot_is_replaced(room: Room) -> None:
    failed = room.finish(room.start("hanging"))
    assert failed["status"] == "FAILED"
    assert failed["reasonForIncompletion"].startswith("pre guardrail brief: did not end within 0.3 s (")
    wait_for("the new slot", lambda: room.worker.saw(SlotReplaced))
    assert room.finish(room.start("main"))["status"] == "COMPLETED"


def test_what_a_guardrail_prints_is_in_the_log_of_the_task(room: Room) -> None:
    task_id = room.finish(room.start("main"))["taskId"]
    logs = wait_for("the task log", lambda: room.site.conductor.task_logs(task_id))
    assert [entry["log"] for entry in logs] == ["looking at the workspace"]
    assert not room.worker.saw(SlotReplaced)


def test_a_cancelled_attempt_does_not_wait_for_its_guardrail(room: Room, tmp_path: Path) -> None:
    workflow = room.start("waiting")
    room.site.conductor.decide(workflow)
    wait_for("the guardrail to run", (tmp_path / "marker").exists)
    room.site.conductor.terminate_workflow(workflow, "enough")
    wait_for("the end of the attempt", lambda: room.worker.ended(Ending.LOST))
    assert room.finish(room.start("main"))["status"] == "COMPLETED"
