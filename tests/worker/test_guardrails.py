"""Guardrails of authors in a slot: their output, their time, and their end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perago.driver import SystemClock
from perago.embedded.conductor import InMemoryConductor
from perago.embedded.lakefs import InMemoryLakeFS
from perago.embedded.remote import StoreServer
from perago.worker.events import Ending, SlotReplaced

from .bench import RunningWorker, make_plan, planned, running, wait_for


class Room:
    """Both services in memory, and a worker on them."""

    def __init__(self, lakefs: InMemoryLakeFS, conductor: InMemoryConductor, worker: RunningWorker) -> None:
        self.lakefs, self.conductor, self.worker = lakefs, conductor, worker

    def start(self, branch: str) -> str:
        ref = self.lakefs.get_commit("data", branch).id
        workspace = {"repository": "data", "branch": branch, "ref_type": "commit", "ref": ref}
        return self.conductor.start_workflow("w", {"workspace": workspace, "params": {}})

    def finish(self, workflow_id: str) -> dict[str, Any]:
        """The first task of the workflow once it is over."""

        def over() -> dict[str, Any] | None:
            self.conductor.decide(workflow_id)
            workflow = self.conductor.workflow(workflow_id)
            return workflow["tasks"][0] if workflow["status"] != "RUNNING" else None

        found = wait_for("the workflow's end", over)
        assert found is not None
        return found


@pytest.fixture
def room(tmp_path: Path, frequent_beats: None) -> Iterator[Room]:
    conductor = InMemoryConductor(SystemClock())
    conductor.register_task_definitions([{"name": "worker.guarded", "retryCount": 0, "responseTimeoutSeconds": 600}])
    step = {
        "name": "worker.guarded",
        "taskReferenceName": "step",
        "type": "SIMPLE",
        "inputParameters": {"workspace": "${workflow.input.workspace}", "params": "${workflow.input.params}"},
    }
    conductor.create_workflow_definition({"name": "w", "version": 1, "schemaVersion": 2, "tasks": [step]})
    with InMemoryLakeFS(SystemClock()) as lakefs, StoreServer(lakefs) as server:
        for branch, file in (("main", "a"), ("hanging", "hang"), ("waiting", "wait")):
            lakefs.seed("data", branch, {file: str(tmp_path / "marker")})
        plan = make_plan(tmp_path, planned(f"{__package__}.tasks.guarded", store_factory=server.factory))
        with running(plan, conductor) as worker:
            yield Room(lakefs, conductor, worker)


def test_a_guardrail_that_hangs_fails_its_attempt_and_its_slot_is_replaced(room: Room) -> None:
    failed = room.finish(room.start("hanging"))
    assert failed["status"] == "FAILED"
    assert failed["reasonForIncompletion"].startswith("pre guardrail brief: did not end within 0.3 s (")
    wait_for("the new slot", lambda: room.worker.saw(SlotReplaced))
    assert room.finish(room.start("main"))["status"] == "COMPLETED"


def test_what_a_guardrail_prints_is_in_the_log_of_the_task(room: Room) -> None:
    task_id = room.finish(room.start("main"))["taskId"]
    logs = wait_for("the task log", lambda: room.conductor.task_logs(task_id))
    assert [entry["log"] for entry in logs] == ["looking at the workspace"]
    assert not room.worker.saw(SlotReplaced)


def test_a_cancelled_attempt_does_not_wait_for_its_guardrail(room: Room, tmp_path: Path) -> None:
    workflow = room.start("waiting")
    room.conductor.decide(workflow)
    wait_for("the guardrail to run", (tmp_path / "marker").exists)
    room.conductor.terminate_workflow(workflow, "enough")
    wait_for("the end of the attempt", lambda: room.worker.ended(Ending.LOST))
    assert room.finish(room.start("main"))["status"] == "COMPLETED"
